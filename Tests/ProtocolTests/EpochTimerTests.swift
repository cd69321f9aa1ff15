import Protocol
import Testing

@Suite struct EpochTimerTests {
    private static let millisecond: UInt64 = 1_000_000

    /// A guest that lived through some epochs of 20 ms.
    private struct Guest {
        var timer: EpochTimer
        private(set) var now: UInt64 = 1_000_000_000

        init(epoch: UInt64 = 20, idle: UInt64 = 1000, endsOnOutput: Bool = true, budget: UInt64 = 25) {
            timer = EpochTimer(
                .init(
                    epoch: epoch * millisecond, idleEpoch: idle * millisecond, endsOnOutput: endsOnOutput,
                    pauseBudget: budget))
            timer.resumed(at: now, pause: 2 * millisecond, used: 0, dirtyPages: 100)
        }

        /// `share` of the time in which it runs it works, in percent of one processor; the last `pause` milliseconds of each
        /// epoch it stands still.
        mutating func live(epochs: Int = 1, pause: UInt64 = 2, share: UInt64) {
            for _ in 0..<epochs {
                now += 20 * millisecond
                let used = (20 - pause) * millisecond * share / 100
                timer.resumed(at: now, pause: pause * millisecond, used: used, dirtyPages: 100)
            }
        }

        /// How long the epoch that has just begun is to last, in microseconds.
        func length(heldAfter held: UInt64? = nil, usedMilliseconds used: UInt64 = 0) -> UInt64 {
            let due = timer.due(firstHeld: held.map { now + $0 * millisecond }, used: { used * millisecond })
            return (due - now) / 1000
        }
    }

    @Test func anEpochWithoutOutputLastsAsLongAsItMay() {
        var guest = Guest()
        guest.live(share: 100)
        #expect(guest.length(usedMilliseconds: 20) == 20_000)
    }

    @Test func outputEndsTheEpochSoon() {
        var guest = Guest()
        guest.live(share: 100)
        let length = guest.length(heldAfter: 12)
        #expect(length > 12_000 && length < 13_000)
    }

    @Test func thePausesOfABusyGuestStayWithinTheirBudget() {
        var guest = Guest()
        guest.live(epochs: 20, share: 100)
        // 2 ms of lost work at 25 % need 6 ms of running.
        #expect((5990...6000).contains(guest.length(heldAfter: 0)))
        guest.live(epochs: 20, pause: 12, share: 100)
        #expect(guest.length(heldAfter: 0) == 20_000, "never later than without output")
    }

    @Test func aPauseCostsAnIdleGuestNothing() {
        var guest = Guest()
        guest.live(epochs: 20, share: 10)
        #expect(guest.length(heldAfter: 0) == 2000, "but it does not stand still for more than half of the time")
        guest.live(epochs: 20, share: 60)
        let length = guest.length(heldAfter: 0)
        #expect(length > 2500 && length < 3000, "60 % of 2 ms are lost, a quarter of 4.8")
    }

    @Test func manyBusyProcessorsLoseNoMoreTimeThanThePauseLasts() {
        var guest = Guest()
        guest.live(epochs: 20, share: 400)
        #expect((5990...6000).contains(guest.length(heldAfter: 0)))
    }

    @Test func aLargeBudgetTakesThePlaceOfTheBoundOnStandingStill() {
        var guest = Guest(budget: 80)
        guest.live(epochs: 20, share: 10)
        #expect(guest.length(heldAfter: 0) == 500)
    }

    @Test func whereNobodyKnowsTheWorkItCountsAsFull() {
        var guest = Guest()
        for epoch in 1...20 {
            guest.timer.resumed(
                at: guest.now + UInt64(epoch) * 20 * Self.millisecond, pause: 2 * Self.millisecond, used: nil,
                dirtyPages: 100)
        }
        let began = guest.now + 400 * Self.millisecond
        #expect(guest.timer.due(firstHeld: began, used: { 0 }) > began + 5 * Self.millisecond)
        #expect(guest.timer.due(firstHeld: nil, used: { 0 }) == began + 20 * Self.millisecond)
    }

    @Test func oneLongPauseIsSoonForgotten() {
        var guest = Guest()
        guest.live(pause: 15, share: 100)
        guest.live(epochs: 12, pause: 1, share: 100)
        #expect(guest.length(heldAfter: 0) < 8000)
    }

    @Test func outputChangesNothingWhereEpochsAreFixed() {
        var guest = Guest(endsOnOutput: false)
        guest.live(share: 100)
        #expect(guest.length(heldAfter: 1) == 20_000)
        guest.live(share: 5)
        #expect(guest.length() == 1_000_000)
        #expect(guest.length(heldAfter: 1) == 20_000, "what is held never waits for an idle epoch")
    }

    @Test func theEpochOfAGuestThatHardlyWorksGoesOnUntilItDid() {
        var guest = Guest()
        guest.live(share: 5)
        #expect(guest.length(usedMilliseconds: 9) == 1_000_000)
        #expect(guest.length(usedMilliseconds: 10) == 20_000, "it has done the work of half an epoch")
        let answered = guest.length(heldAfter: 500, usedMilliseconds: 1)
        #expect(answered > 500_000 && answered < 501_000, "its first output does not wait for that")
        guest.live(share: 60)
        #expect(guest.length(usedMilliseconds: 1) == 20_000, "it worked just now")
    }
}
