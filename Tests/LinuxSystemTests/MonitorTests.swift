import LinuxSystem
import Testing

@Suite struct MonitorTests {
    @Test func aChangeWakesWhoeverWaits() throws {
        let count = Monitor(0)
        let thread = try NamedThread.start("monitor") { for _ in 0..<3 { count.change { $0 += 1 } } }
        let seen = count.wait { $0 >= 3 ? $0 : nil }
        thread.join()
        #expect(seen == 3)
    }

    @Test func aWaitThatIsOverHasNothing() {
        let flag = Monitor(false)
        let before = MonotonicClock.now()
        let seen: Bool? = flag.wait(nanoseconds: 20_000_000) { $0 ? true : nil }
        #expect(seen == nil)
        #expect(MonotonicClock.now() - before >= 20_000_000)
    }

    @Test func whatIsThereIsTakenWithoutWaiting() {
        let stock = Monitor([1, 2])
        #expect(stock.wait(nanoseconds: 0) { $0.popLast() } == 2)
        #expect(stock.wait(nanoseconds: .max) { $0.popLast() } == 1)
        #expect(stock.look(\.count) == 0)
    }

    @Test func takingWakesWhoWaitsForRoom() throws {
        let stock = Monitor([1])
        let thread = try NamedThread.start("room") {
            _ = stock.wait { stock -> Bool? in
                guard stock.isEmpty else { return nil }
                stock.append(2)
                return true
            }
        }
        #expect(stock.wait { $0.popLast() } == 1)
        #expect(stock.wait { $0.popLast() } == 2)
        thread.join()
    }

    /// Eight that may all do it: each thing is taken once, and none is left.
    @Test func whatOneMayTakeIsTakenOnce() throws {
        let stock = Monitor([Int]())
        let taken = Monitor([Int]())
        for number in 0..<8 {
            _ = try NamedThread.start("taker-\(number)") {
                while true {
                    let next = stock.take { $0.isEmpty ? nil : $0.removeFirst() }
                    taken.change { $0.append(next) }
                    if next < 0 { return }
                }
            }
        }
        for number in 0..<500 { stock.changeForOne { $0.append(number) } }
        for _ in 0..<8 { stock.changeForOne { $0.append(-1) } }
        taken.await { $0.count == 508 }
        #expect(Set(taken.look { $0 }) == Set(-1..<500))
    }
}
