import Glibc
import LinuxSystem
import Testing

@Suite struct ProcessorTimeTests {
    @Test func anotherProcessIsSeenToWorkAndToRest() throws {
        let child = try ChildProcess.counter()
        let time = try ProcessorTime(of: child.pid)
        #expect(try child.ask("20000") == "done")
        let first = time.total() ?? 0
        #expect(first > 1_000_000)
        #expect(try child.ask("200000") == "done")
        let second = time.total() ?? 0
        #expect(second > first + 1_000_000)
        // Its only thread is the main one.
        let beside = time.besideMainThread() ?? .max
        #expect(beside < 1_000_000)
    }

    @Test func theMainThreadIsLeftOut() throws {
        let time = try ProcessorTime(of: getpid())
        let total = time.total() ?? .max
        let beside = time.besideMainThread() ?? .max
        let worker = try NamedThread.start("busy") {
            var sum: UInt64 = 1
            for number in 0..<50_000_000 as Range<UInt64> { sum = sum &* 31 ^ number }
            print("the sum is \(sum)")
        }
        worker.join()
        let (totalAfter, besideAfter) = (time.total() ?? 0, time.besideMainThread() ?? 0)
        #expect(besideAfter > beside + 5_000_000 && totalAfter > total + 5_000_000)
    }

    @Test func aProcessThatIsGoneHasNone() throws {
        let child = try ChildProcess(["/bin/true"])
        let time = try ProcessorTime(of: child.pid)
        _ = child.waitForEnd()
        let (total, beside) = (time.total(), time.besideMainThread())
        #expect(total == nil && beside == nil)
        #expect(systemError { _ = try ProcessorTime(of: child.pid) }?.errno == ESRCH)
    }
}
