import Protocol
import Testing

@Suite struct EpochTimerTests {
    private static let millisecond: UInt64 = 1_000_000

    private func timer(
        epoch: UInt64 = 20, idle: UInt64 = 200, endsOnOutput: Bool = true, budget: UInt64 = 25
    ) -> EpochTimer {
        EpochTimer(
            .init(
                epoch: epoch * Self.millisecond, idleEpoch: idle * Self.millisecond, endsOnOutput: endsOnOutput,
                pauseBudget: budget))
    }

    private func resumed(
        _ timer: inout EpochTimer, at now: UInt64 = 100, pause: UInt64 = 2, pages: UInt64 = 300, frames: UInt64 = 0
    ) {
        timer.resumed(
            at: now * Self.millisecond, pause: pause * Self.millisecond, dirtyPages: pages, heldFrames: frames)
    }

    @Test func anEpochWithoutOutputLastsAsLongAsItMay() {
        var timer = timer()
        resumed(&timer)
        #expect(timer.due(firstHeld: nil) == 120 * Self.millisecond)
    }

    @Test func outputEndsTheEpochSoon() {
        var timer = timer()
        resumed(&timer)
        let held = 112 * Self.millisecond
        let due = timer.due(firstHeld: held)
        #expect(due > held && due < held + Self.millisecond)
    }

    @Test func thePausesStayWithinTheirBudget() {
        var timer = timer()
        resumed(&timer)
        // 2 ms of standing still at 25 % need 6 ms of running.
        #expect(timer.due(firstHeld: 100 * Self.millisecond) == 106 * Self.millisecond)
        for _ in 0..<20 { resumed(&timer, pause: 9) }
        #expect(
            timer.due(firstHeld: 100 * Self.millisecond) == 120 * Self.millisecond, "never later than without output")
    }

    @Test func oneLongPauseIsSoonForgotten() {
        var timer = timer()
        resumed(&timer, pause: 50)
        for _ in 0..<12 { resumed(&timer, pause: 1) }
        #expect(timer.due(firstHeld: 100 * Self.millisecond) < 108 * Self.millisecond)
    }

    @Test func outputChangesNothingWhereEpochsAreFixed() {
        var timer = timer(endsOnOutput: false)
        resumed(&timer)
        #expect(timer.due(firstHeld: 101 * Self.millisecond) == 120 * Self.millisecond)
    }

    @Test func theEpochsOfAnIdleGuestBecomeLongerUpToABound() {
        var timer = timer()
        var lengths: [UInt64] = []
        for _ in 0..<5 {
            resumed(&timer, pages: 10)
            lengths.append(timer.due(firstHeld: nil) / Self.millisecond - 100)
        }
        #expect(lengths == [40, 80, 160, 200, 200])
        // Its first output does not wait for that.
        #expect(timer.due(firstHeld: 110 * Self.millisecond) < 111 * Self.millisecond)
        resumed(&timer, pages: 10, frames: 1)
        #expect(timer.due(firstHeld: nil) == 120 * Self.millisecond)
        resumed(&timer, pages: 10)
        resumed(&timer, pages: 5000)
        #expect(timer.due(firstHeld: nil) == 120 * Self.millisecond)
    }
}
