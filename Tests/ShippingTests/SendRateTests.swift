import Shipping
import Testing

@Suite struct SendRateTests {
    private static let second: UInt64 = 1_000_000_000

    /// When the last of `frames` left that came as fast as they were let, from `start` on.
    private static func end(_ rate: inout SendRate, sending frames: [Int], from start: UInt64) -> UInt64 {
        frames.reduce(start) { now, bytes in now + rate.wait(toSend: bytes, now: now) }
    }

    @Test func withoutACapNothingWaits() {
        var rate = SendRate()
        #expect(Self.end(&rate, sending: Array(repeating: 1 << 20, count: 1000), from: 0) == 0)
    }

    @Test(arguments: [1, 100, 10_000])
    func whatLeavesKeepsToTheCap(megabits: Int) {
        var rate = SendRate()
        rate.cap(megabits: megabits)
        // Five seconds' worth.
        let frames = Array(repeating: megabits * 125, count: 5000)
        let took = Self.end(&rate, sending: frames, from: 7 * Self.second) - 7 * Self.second
        #expect(took <= 5 * Self.second && took >= 5 * Self.second - 20_000_000, "\(took) ns")
    }

    @Test func theBacklogIsWhatTheCapStillHasToCarry() {
        var rate = SendRate()
        #expect(rate.backlog(now: 5) == 0)
        rate.cap(megabits: 8)
        _ = rate.wait(toSend: 500_000, now: Self.second)
        #expect(rate.backlog(now: Self.second) == Self.second / 2)
        #expect(rate.backlog(now: Self.second + Self.second / 4) == Self.second / 4)
        #expect(rate.backlog(now: 3 * Self.second) == 0)
    }

    @Test func aSmallEpochAfterAPauseDoesNotWait() {
        var rate = SendRate()
        rate.cap(megabits: 100)
        _ = Self.end(&rate, sending: [1 << 20, 1 << 20], from: 0)
        #expect(rate.wait(toSend: 50_000, now: 3 * Self.second) == 0)
        #expect(rate.wait(toSend: 50_000, now: 3 * Self.second) == 0)
    }

    /// A pause is not made up for by more than the burst.
    @Test func whatWasNotSentIsNotSaved() {
        var rate = SendRate()
        rate.cap(megabits: 80)
        _ = rate.wait(toSend: 1, now: 0)
        let frames = Array(repeating: 100_000, count: 100)
        let took = Self.end(&rate, sending: frames, from: 60 * Self.second) - 60 * Self.second
        #expect(took >= Self.second - 20_000_000, "\(took) ns for one second's worth")
    }

    @Test func liftingTheCapForgetsTheWait() {
        var rate = SendRate()
        rate.cap(megabits: 1)
        #expect(rate.wait(toSend: 1 << 20, now: 0) == 0)
        #expect(rate.wait(toSend: 1 << 20, now: 0) > 8 * Self.second)
        rate.cap(megabits: nil)
        #expect(rate.wait(toSend: 1 << 20, now: 0) == 0)
    }
}
