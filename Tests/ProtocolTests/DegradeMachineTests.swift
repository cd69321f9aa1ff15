import Model
import Protocol
import Testing

@Suite struct DegradeMachineTests {
    private static let second: UInt64 = 1_000_000_000
    private static let after = 2 * second
    private static let retry = 30 * second

    /// A machine, and a clock that is turned by hand.
    private struct Scene {
        var machine: DegradeMachine
        var sight = DegradeMachine.Sight()
        var now = 100 * second

        init(targetAfter: UInt64 = 0) {
            machine = DegradeMachine(
                DegradeMachine.Settings(floor: .restart, after: after, targetAfter: targetAfter, retry: retry))
            sight.isPaired = true
            sight.isCalm = true
        }

        mutating func look(after seconds: Double = 0) -> DegradeMachine.Move? {
            now += UInt64(seconds * 1e9)
            return machine.look(sight, at: now)
        }

        mutating func stand(isAsked: Bool) { machine.stood(isAsked: isAsked, at: now) }

        /// Until it fell.
        mutating func fall() {
            sight.sealed = sight.sealed.next
            _ = look()
            guard case .fall? = look(after: 2.1) else {
                Issue.record("it does not fall: \(machine.state)")
                return
            }
            sight.acknowledged = sight.sealed
            stand(isAsked: false)
        }
    }

    private func isFall(_ move: DegradeMachine.Move?) -> Bool { if case .fall? = move { true } else { false } }
    private func isGivingUp(_ move: DegradeMachine.Move?) -> Bool { if case .giveUp? = move { true } else { false } }

    @Test func epochsThatAreAcknowledgedInTimeAreNoTrouble() {
        var scene = Scene()
        for _ in 0..<100 {
            scene.sight.sealed = scene.sight.sealed.next
            #expect(scene.look(after: 0.1) == nil)
            #expect(scene.look(after: 1.8) == nil)
            scene.sight.acknowledged = scene.sight.sealed
        }
        #expect(scene.machine.state == .holding)
    }

    @Test func anEpochThatIsNotMakesItFall() {
        var scene = Scene()
        scene.sight.sealed = Epoch(5)
        #expect(scene.look() == nil)
        // Newer ones, and the acknowledgement of older ones, do not make it younger.
        scene.sight.sealed = Epoch(6)
        scene.sight.acknowledged = Epoch(4)
        #expect(scene.look(after: 1.9) == nil)
        #expect(scene.look(after: 0.1) == .fall("the standby has not acknowledged an epoch for 2000 ms"))
        #expect(scene.look(after: 0.1) == nil, "once")
    }

    /// Output of an epoch that was sealed late has waited before that.
    @Test func whatIsHeldCountsFromWhenItWasSent() {
        var scene = Scene()
        scene.sight.heldSince = scene.now
        #expect(scene.look(after: 3) == nil, "no epoch is on its way: the link is not to blame")
        scene.sight.sealed = Epoch(1)
        #expect(isFall(scene.look(after: 0.05)))
    }

    @Test func neverIsNever() {
        var machine = DegradeMachine(.never)
        var sight = DegradeMachine.Sight()
        sight.isPaired = true
        sight.sealed = Epoch(9)
        #expect(machine.look(sight, at: 1) == nil)
        #expect(machine.look(sight, at: 1000 * Self.second) == nil)
    }

    @Test func aMissedTargetCountsWhereItIsAskedFor() {
        var scene = Scene()
        scene.sight.missesTarget = true
        _ = scene.look()
        #expect(scene.look(after: 1000) == nil)
        scene = Scene(targetAfter: 60 * Self.second)
        scene.sight.missesTarget = true
        _ = scene.look()
        #expect(scene.look(after: 59) == nil)
        scene.sight.missesTarget = false
        #expect(scene.look(after: 2) == nil)
        scene.sight.missesTarget = true
        #expect(scene.look() == nil)
        #expect(scene.look(after: 61) == .fall("its target was missed for 61 s"))
    }

    @Test func itClimbsWhenTheWaitIsOverAndAllIsCalm() {
        var scene = Scene()
        scene.fall()
        #expect(scene.machine.state == .fallen(climbs: scene.now + Self.retry))
        #expect(scene.look(after: 29) == nil)
        scene.sight.isCalm = false
        #expect(scene.look(after: 2) == nil)
        scene.sight.isCalm = true
        #expect(scene.look(after: 1) == .climb)
        #expect(scene.look(after: 1) == nil)
        scene.stand(isAsked: true)
        #expect(scene.machine.state == .holding)
    }

    @Test func eachFallDoublesTheWaitUpToABound() {
        var scene = Scene()
        var waits: [UInt64] = []
        for _ in 0..<9 {
            scene.fall()
            guard case .fallen(let climbs) = scene.machine.state else { break }
            waits.append((climbs - scene.now) / Self.second)
            #expect(scene.look(after: Double(waits.last ?? 0)) == .climb)
            scene.stand(isAsked: true)
            scene.now += Self.after
        }
        #expect(waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600])
    }

    @Test func aLongStayMakesTheNextFallAFirstOne() {
        var scene = Scene()
        scene.fall()
        _ = scene.look(after: 30)
        scene.stand(isAsked: true)
        #expect(scene.look(after: 121) == nil)
        scene.fall()
        #expect(scene.machine.state == .fallen(climbs: scene.now + Self.retry))
    }

    /// The turn is over, and not even the last epoch arrives.
    @Test func aStandbyThatTakesNoLastEpochIsGivenUp() {
        var scene = Scene()
        scene.sight.sealed = Epoch(1)
        _ = scene.look()
        #expect(isFall(scene.look(after: 2)))
        #expect(scene.look(after: 5) == nil, "while the arbiter is asked nothing is given up")
        scene.sight.mayGiveUp = true
        #expect(isGivingUp(scene.look(after: 0.1)))
        #expect(scene.machine.state == .fallen(climbs: scene.now + Self.retry))
    }

    /// There is no level to fall to before the pair is one.
    @Test func aFirstEpochThatIsNotAcknowledgedEndsTheSession() {
        var scene = Scene()
        scene.sight.isPaired = false
        scene.sight.sealed = Epoch(1)
        _ = scene.look()
        #expect(isGivingUp(scene.look(after: 2)))
    }

    @Test func aTrialEndsWithTheFirstSlowWrite() {
        var scene = Scene()
        scene.fall()
        scene.sight.written = 10
        #expect(scene.look(after: 29) == nil)
        scene.sight.taken = 10
        #expect(scene.look(after: 1) == .climb)
        scene.sight.written = 11
        _ = scene.look()
        scene.sight.written = 12
        #expect(scene.look(after: 1.9) == nil)
        #expect(isFall(scene.look(after: 0.1)))
        scene.stand(isAsked: false)
        #expect(scene.machine.state == .fallen(climbs: scene.now + 2 * Self.retry))
    }

    @Test func aTrialThatFailsDoublesTheWaitToo() {
        var scene = Scene()
        scene.fall()
        _ = scene.look(after: 30)
        scene.stand(isAsked: false)
        #expect(scene.machine.state == .fallen(climbs: scene.now + 2 * Self.retry))
    }

    @Test func aFallThatCannotBeIsNotTriedAgainAtOnce() {
        var scene = Scene()
        scene.sight.sealed = Epoch(1)
        _ = scene.look()
        #expect(isFall(scene.look(after: 2)))
        scene.stand(isAsked: true)
        #expect(scene.machine.state == .holding)
        #expect(scene.look(after: 1.9) == nil)
        #expect(isFall(scene.look(after: 0.1)))
    }

    @Test func aSessionThatEndsTakesItsTroubleWithIt() {
        var scene = Scene()
        scene.sight.sealed = Epoch(7)
        _ = scene.look()
        scene.machine.rest(at: scene.now)
        scene.sight.sealed = Epoch(1)
        #expect(scene.look(after: 3) == nil)
        #expect(scene.machine.state == .holding)
        #expect(isFall(scene.look(after: 2)))
        scene.machine.rest(at: scene.now)
        #expect(scene.machine.state == .fallen(climbs: scene.now + Self.retry))
    }

    // MARK: - Where it rests

    @Test func itGoesOnToWhereItRestsOnceAfterEachFall() {
        var scene = Scene()
        scene.fall()
        let climbs = scene.now + Self.retry
        scene.sight.isCalm = false
        scene.sight.restsHigher = true
        #expect(scene.look(after: 0.1) == nil)
        scene.sight.isCalm = true
        #expect(scene.look(after: 0.1) == .settle)
        #expect(scene.machine.state == .settling(climbs: climbs))
        scene.sight.isCalm = false
        #expect(scene.look(after: 0.1) == nil, "once")
        scene.sight.isCalm = true
        scene.stand(isAsked: false)
        #expect(scene.machine.state == .fallen(climbs: climbs), "the wait is not longer for it")
        #expect(scene.look(after: 1) == nil, "it did not get there, and is not tried again")
        #expect(scene.look(after: 29) == .climb)
        scene.stand(isAsked: true)
        scene.now += Self.after
        scene.fall()
        #expect(scene.look() == .settle)
    }

    /// What was attached for it cannot be taken away, so the dial does not come to stand.
    @Test func itClimbsAlthoughTheWayToWhereItRestsGotStuck() {
        var scene = Scene()
        scene.fall()
        scene.sight.restsHigher = true
        #expect(scene.look() == .settle)
        scene.sight.isCalm = false
        #expect(scene.look(after: 40) == nil)
        scene.sight.isCalm = true
        #expect(scene.look(after: 0.1) == nil)
        #expect(scene.look(after: 0.1) == .climb)
    }

    /// The guest stands still for it until its writes are done.
    @Test func itDoesNotGoOnWhileAWriteIsSlow() {
        var scene = Scene()
        scene.fall()
        scene.sight.restsHigher = true
        scene.sight.written = 5
        #expect(scene.look() == .settle, "one that was just sent")
        scene.machine.rest(at: scene.now)
        #expect(scene.look() == .settle, "once in each session")
        scene.machine.rest(at: scene.now)
        scene.sight.isCalm = false
        _ = scene.look()
        scene.sight.isCalm = true
        #expect(scene.look(after: 0.3) == nil)
        scene.sight.taken = 5
        #expect(scene.look() == .settle)
    }

    @Test func aSlowLinkDoesNotKeepItFromClimbing() {
        var scene = Scene()
        scene.fall()
        scene.sight.restsHigher = true
        scene.sight.isCalm = false
        scene.sight.written = 5
        _ = scene.look(after: 29)
        scene.sight.isCalm = true
        #expect(scene.look(after: 1) == .climb)
    }

    /// A disk is lost: the level that it lives by is not left, and that is no trial that failed.
    @Test func itDoesNotClimbFromWhatItLivesBy() {
        var scene = Scene()
        scene.fall()
        scene.sight.isHeldBack = true
        #expect(scene.look(after: 1000) == nil)
        scene.sight.isHeldBack = false
        #expect(scene.look() == .climb)
        scene.sight.isHeldBack = true
        #expect(scene.look(after: 1) == nil)
        scene.stand(isAsked: false)
        #expect(scene.machine.state == .fallen(climbs: scene.now + 2 * Self.retry))
    }

    @Test func whatAnEarlierRunLeftBelowClimbs() {
        var scene = Scene()
        scene.machine.find(at: scene.now)
        #expect(scene.look(after: 29) == nil)
        #expect(scene.look(after: 1) == .climb)
        scene.machine.reset()
        #expect(scene.machine.state == .holding)
    }
}
