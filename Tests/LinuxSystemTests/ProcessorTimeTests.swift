import Glibc
import LinuxSystem
import Testing

@Suite struct ProcessorTimeTests {
    /// Counts as far as it is told to, and says so.
    private static let counter = "while read n; do while [ $n -gt 0 ]; do n=$((n-1)); done; echo done; done"

    @Test func anotherProcessIsSeenToWorkAndToRest() throws {
        let child = try ChildProcess(["/bin/sh", "-c", Self.counter])
        let time = try ProcessorTime(of: child.pid)
        #expect(try child.ask("20000") == "done")
        let first = try #require(time.total())
        #expect(first > 1_000_000)
        #expect(try child.ask("200000") == "done")
        let second = try #require(time.total())
        #expect(second > first + 1_000_000)
        // Its only thread is the main one, which waits for a line by now or is about to.
        #expect(try #require(time.besideMainThread()) < 1_000_000)
        try eventually("the child rests") { time.total() == time.total() }
    }

    @Test func theMainThreadIsLeftOut() throws {
        let time = try ProcessorTime(of: getpid())
        let (total, beside) = (try #require(time.total()), try #require(time.besideMainThread()))
        let worker = try NamedThread.start("busy") {
            var sum: UInt64 = 1
            let end = MonotonicClock.now() + 20_000_000_000
            while (time.besideMainThread() ?? .max) < beside + 50_000_000, MonotonicClock.now() < end {
                sum = sum &* 31 &+ 7
            }
        }
        worker.join()
        #expect(try #require(time.besideMainThread()) >= beside + 50_000_000)
        #expect(try #require(time.total()) >= total + 50_000_000)
    }

    @Test func aProcessThatIsGoneHasNone() throws {
        let child = try ChildProcess(["/bin/true"])
        let time = try ProcessorTime(of: child.pid)
        _ = child.waitForEnd()
        #expect(time.total() == nil && time.besideMainThread() == nil)
        #expect(systemError { _ = try ProcessorTime(of: child.pid) }?.errno == ESRCH)
    }
}
