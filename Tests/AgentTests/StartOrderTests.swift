import Agent
import Testing

/// Whose turn it is among the guests of a lost host.
@Suite struct StartOrderTests {
    private static let second: UInt64 = 1_000_000_000
    private static let late = StartOrder(place: 20, delaySeconds: 0)
    private static let early = StartOrder(place: 10, delaySeconds: 5)

    private func waits(_ stage: StartOrder.Stage, ready: UInt64 = 100, now: UInt64) -> Bool {
        Self.late.waits(for: Self.early, in: stage, ready: ready * Self.second, now: now * Self.second)
    }

    @Test func onlyThoseBeforeItAreWaitedFor() {
        for other in [Self.late, StartOrder(place: 21, delaySeconds: 5)] {
            #expect(!Self.late.waits(for: other, in: .underWay, ready: 0, now: 0))
        }
        #expect(!Self.early.waits(for: Self.late, in: .underWay, ready: 0, now: 0))
    }

    @Test func oneThatIsStartedIsWaitedForAndItsDelayToo() {
        #expect(waits(.underWay, now: 100) && waits(.underWay, now: 160))
        #expect(waits(.started(at: 103 * Self.second), now: 107))
        #expect(!waits(.started(at: 103 * Self.second), now: 108))
        #expect(!waits(.over, now: 100))
    }

    /// Its host may be found lost a moment later.
    @Test func oneOfWhichNothingIsHeardIsWaitedForShortly() {
        #expect(waits(.idle, now: 101))
        #expect(!waits(.idle, now: 102))
    }

    @Test func nobodyWaitsForEver() {
        #expect(waits(.underWay, now: 399))
        #expect(!waits(.underWay, now: 400))
    }
}
