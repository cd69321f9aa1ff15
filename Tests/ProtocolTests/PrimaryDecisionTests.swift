import Model
import Protocol
import Testing

/// Losing the standby, unknown answers, switchover, the dial, and life without an arbiter.
@Suite struct PrimaryDecisionTests {
    // MARK: - With an arbiter

    @Test func aLostStandbyIsOutlivedOnlyByWinningSolo() {
        var scene = PrimaryScene.paired()
        let actions = scene.feed(.standbyLost(scene.session))
        #expect(!actions.releasesFreely)
        #expect(actions.request?.new.mode == .solo)
        #expect(actions.request?.new.term == Term(3))
        #expect(scene.machine.state == .lonely)
        #expect(scene.settle().deeds.suffix(2) == [.releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func aDeposedPrimaryEndsItsGuestAndReleasesNothing() {
        var scene = PrimaryScene.paired()
        scene.register = scene.takenOver()
        scene.feed(.standbyLost(scene.session))
        let actions = scene.settle()
        #expect(!actions.releasesFreely)
        #expect(actions.deeds.suffix(3) == [.dropHeld, .closeLink, .killGuest])
        #expect(scene.machine.state == .fencing)
    }

    @Test func anUnknownAnswerIsReadAndAskedAgainUnderTheSameNonce() {
        var scene = PrimaryScene.paired()
        let asked = scene.feed(.standbyLost(scene.session)).request.unsafelyUnwrapped
        #expect(scene.feed(.answered(asked.nonce, .unknown("no answer"))) == [.readRegister])
        #expect(
            scene.feed(.registerRead(scene.register))
                == [.compareAndSet(expecting: asked.expecting, to: asked.new, nonce: asked.nonce)])
        #expect(scene.feed(.answered(asked.nonce, .unknown("no answer"))) == [.readRegister])
        // It had taken effect after all.
        #expect(
            scene.feed(.registerRead(asked.new)) == [.persist(LocalRecord(seen: asked.new.term, register: asked.new))])
    }

    @Test func anAnswerToAnotherRequestCountsForNothing() {
        var scene = PrimaryScene.paired()
        let asked = scene.feed(.standbyLost(scene.session)).request.unsafelyUnwrapped
        #expect(scene.feed(.answered(Nonce(1), .applied(asked.new))) == [])
        #expect(scene.machine.state == .lonely)
    }

    /// I12: PAIRED was asked for and not answered; only a later SOLO lets output leave again.
    @Test func anUnansweredPairIsBurnt() {
        var scene = PrimaryScene.pairing()
        let pair = scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true)).request.unsafelyUnwrapped
        scene.ignore()
        let first = scene.feed(.standbyLost(scene.session)).request.unsafelyUnwrapped
        #expect(first.expecting?.term == Term(1))
        // The pair took effect late, so the first attempt fails.
        let second = scene.feed(.answered(first.nonce, .conflict(pair.new)))
        #expect(!second.releasesFreely)
        #expect(second.request?.expecting == pair.new)
        #expect(second.request?.new.term == Term(3))
    }

    @Test func withoutHavingAskedForAPairThePrimaryIsStillAlone() {
        var scene = PrimaryScene.pairing()
        #expect(scene.feed(.standbyLost(scene.session)) == [.closeLink, .releaseEverything, .detach])
    }

    @Test func aNewerRegisterElsewhereStopsOutputUntilTheArbiterWasRead() {
        var scene = PrimaryScene.solo()
        let taken = scene.takenOver()
        #expect(scene.feed(.peerRegister(taken)) == [.hold, .closeLink, .readRegister])
        #expect(scene.feed(.registerRead(taken)).contains(.killGuest))
        var older = PrimaryScene.paired()
        #expect(older.feed(.peerRegister(PrimaryScene.solo().takenOver())) == [])
    }

    // MARK: - Unprotect and the dial

    @Test func unprotectGoesOnReleasingByAcknowledgementUntilSoloIsWon() {
        var scene = PrimaryScene.paired()
        #expect(!scene.feed(.unprotect).releasesFreely)
        #expect(
            scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true)) == [.release(through: Epoch(2))])
        #expect(
            scene.settle().deeds.suffix(5) == [.dismissStandby, .closeLink, .releaseEverything, .detach, .end])
        #expect(scene.machine.state == .ended)
        #expect(scene.register?.mode == .solo)
    }

    @Test func unprotectWhileTheStandbyIsLostStillNeedsTheClaim() {
        var scene = PrimaryScene.paired()
        scene.feed(.standbyLost(scene.session))
        #expect(scene.feed(.unprotect) == [])
        #expect(scene.settle().contains(.end))
        #expect(scene.machine.state == .ended)
    }

    @Test(arguments: [PrimaryScene.solo(), .copying(), .pairing()])
    func unprotectIsImmediateWhileTheRegisterSaysSolo(scene: PrimaryScene) {
        var scene = scene
        #expect(scene.feed(.unprotect) == [.dismissStandby, .closeLink, .releaseEverything, .detach, .end])
    }

    @Test func theDialIsATransitionOfTheRegister() {
        var scene = PrimaryScene.paired()
        let asked = scene.feed(.setLevel(.component)).request
        #expect(asked?.new.level == .component)
        #expect(asked?.new.mode == .paired)
        #expect(asked?.new.term == Term(3))
        #expect(scene.feed(.setLevel(.restart)).deeds == [])
        #expect(scene.feed(.switchOver).deeds == [])
        #expect(scene.settle().contains { if case .tellRegister = $0 { true } else { false } })
        #expect(scene.machine.register?.level == .component)
        var alone = PrimaryScene.solo()
        #expect(alone.feed(.setLevel(.restart)).request?.new.level == .restart)
    }

    // MARK: - Switchover

    private func handingOver(_ rule: Rule = .arbiter) -> PrimaryScene {
        var scene = PrimaryScene.paired(rule)
        scene.feed(.switchOver)
        scene.settle()
        scene.feed(.sealedLast(scene.session, Epoch(4)))
        for epoch in 2...4 { scene.feed(.acknowledged(scene.session, Epoch(UInt64(epoch)), digestMatches: true)) }
        return scene
    }

    @Test func aSwitchoverAsksTheStandbyOnlyWhenItHasEverything() {
        var scene = PrimaryScene.paired()
        #expect(scene.feed(.switchOver) == [.readRegister])
        #expect(scene.feed(.registerRead(scene.register)) == [.sealLast])
        scene.feed(.sealedLast(scene.session, Epoch(4)))
        for epoch in 2...3 {
            let acknowledged = Epoch(UInt64(epoch))
            #expect(
                scene.feed(.acknowledged(scene.session, acknowledged, digestMatches: true))
                    == [.release(through: acknowledged)])
        }
        #expect(
            scene.feed(.acknowledged(scene.session, Epoch(4), digestMatches: true))
                == [.release(through: Epoch(4)), .askTakeOver(Term(3), guestStands: true)])
    }

    /// I34: the guest runs while the arbiter is asked, and is not stopped when it does not answer.
    @Test func anArbiterThatIsAwayIsNoticedBeforeTheGuestIsStopped() {
        for answer in [PrimaryMachine.Event.registerUnreadable("no answer"), .registerRead(nil)] {
            var scene = PrimaryScene.paired()
            scene.feed(.switchOver)
            #expect(scene.machine.isSwitchingOver)
            #expect(scene.feed(.sealed(scene.session, Epoch(4))) == [])
            let actions = scene.feed(answer)
            guard actions.count == 1, case .refuseSwitchover = actions.first else {
                Issue.record("\(answer) led to \(actions)")
                continue
            }
            #expect(!scene.machine.isSwitchingOver)
            #expect(
                scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true))
                    == [.release(through: Epoch(2))])
            #expect(scene.feed(.switchOver) == [.readRegister])
        }
    }

    @Test func whatIsAskedForWhileTheArbiterIsSoundedTakesThePlaceOfTheSwitchover() {
        var scene = PrimaryScene.paired()
        scene.feed(.switchOver)
        #expect(scene.feed(.setLevel(.component)).deeds == [])
        #expect(scene.feed(.unprotect).request?.new.mode == .solo)
        #expect(scene.feed(.registerRead(scene.register)).deeds.contains(.sealLast) == false)
    }

    /// The standby could not ask the arbiter: nothing was done there, so the pair goes on.
    @Test func aSwitchoverThatIsDeclinedLeavesThePairAsItWas() {
        var scene = handingOver()
        #expect(scene.feed(.declined(SessionID(1), "no answer")) == [])
        #expect(scene.feed(.declined(scene.session, "no answer")).first == .resumeGuest)
        #expect(!scene.machine.isSwitchingOver)
        scene.feed(.sealed(scene.session, Epoch(5)))
        #expect(
            scene.feed(.acknowledged(scene.session, Epoch(5), digestMatches: true)) == [.release(through: Epoch(5))])
        #expect(scene.feed(.switchOver) == [.readRegister])
    }

    /// I34: whoever is to go on, the guest does not stand still for an arbiter that is away. Nothing of it leaves.
    @Test func aGuestThatWasStoppedRunsOnWhileItIsDecidedWhoHasIt() {
        var overdue = handingOver()
        #expect(overdue.feed(.handOverOverdue).contains(.resumeGuest))
        var lost = PrimaryScene.paired()
        lost.feed(.switchOver)
        lost.settle()
        let actions = lost.feed(.standbyLost(lost.session))
        #expect(actions.contains(.resumeGuest) && !actions.releasesFreely)
    }

    @Test func aSwitchoverThatNothingCameOfIsTakenBackByTheArbiter() {
        var scene = handingOver()
        scene.ignore()
        scene.feed(.handOverOverdue)
        #expect(scene.settle().deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func theArbiterDecidesWhenTheLinkIsLostDuringASwitchover() {
        var won = handingOver()
        won.ignore()
        #expect(won.feed(.standbyLost(won.session)).request != nil)
        #expect(won.settle().deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
        var lost = handingOver()
        lost.ignore()
        lost.register = lost.takenOver()
        lost.feed(.standbyLost(lost.session))
        #expect(lost.settle().contains(.killGuest))
    }

    @Test(arguments: [Rule.arbiter, .manual(.runAlone), .manual(.freeze)])
    func aGuestThatIsHandedBackGoesOnInItsOwnHistory(rule: Rule) {
        var scene = handingOver(rule)
        scene.settle()
        let lineage = scene.machine.register?.lineage
        if rule == .arbiter {
            var returned = scene.takenOver()
            returned.term = Term(returned.term.number + 1)
            returned.owner = alpha
            scene.register = returned
        }
        #expect(scene.feed(.handedBack(SessionID(1))) == [])
        scene.feed(.handedBack(scene.session))
        #expect(scene.settle().deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
        #expect(scene.machine.register?.lineage == lineage)
    }

    // MARK: - A standby that leaves

    @Test func aStandbyThatLeavesGoesOnAcknowledgingUntilSOLOIsWon() {
        var scene = PrimaryScene.paired()
        let asked = scene.feed(.standbyLeaves(scene.session))
        #expect(asked.deeds.count == 1 && asked.request?.new.mode == .solo)
        #expect(
            scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true)) == [.release(through: Epoch(2))])
        #expect(
            scene.settle().deeds.suffix(4) == [.dismissStandby, .closeLink, .releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func aStandbyThatLeavesDuringTheFirstCopyIsDismissedAtOnce() {
        var scene = PrimaryScene.copying()
        #expect(
            scene.feed(.standbyLeaves(scene.session)) == [.dismissStandby, .closeLink, .releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func aStandbyDoesNotLeaveDuringASwitchover() {
        var scene = PrimaryScene.paired()
        scene.feed(.switchOver)
        scene.settle()
        #expect(scene.feed(.standbyLeaves(scene.session)) == [])
    }

    @Test func aSwitchoverThatWorkedEndsTheGuestHere() {
        var scene = handingOver()
        scene.ignore()
        scene.register = scene.takenOver()
        scene.feed(.peerRegister(scene.takenOver()))
        scene.feed(.handOverOverdue)
        #expect(scene.settle().contains(.killGuest))
    }

    // MARK: - Without an arbiter

    @Test func byPolicyThePrimaryRunsAloneOrFreezes() {
        var alone = PrimaryScene.paired(.manual(.runAlone))
        #expect(!alone.feed(.standbyLost(alone.session)).releasesFreely)
        #expect(alone.settle().deeds.suffix(2) == [.releaseEverything, .detach])
        var frozen = PrimaryScene.paired(.manual(.freeze))
        #expect(frozen.feed(.standbyLost(frozen.session)).deeds == [.closeLink])
        #expect(frozen.machine.state == .frozen)
        frozen.feed(.goOn)
        #expect(frozen.settle().releasesFreely)
        #expect(frozen.machine.state == .solo)
    }

    @Test func aFrozenGuestCanBeUnprotectedOrGivenUp() {
        var left = PrimaryScene.paired(.manual(.freeze))
        left.feed(.standbyLost(left.session))
        left.feed(.unprotect)
        #expect(left.settle().contains(.end))
        var given = PrimaryScene.paired(.manual(.freeze))
        given.feed(.standbyLost(given.session))
        #expect(given.feed(.giveUp).contains(.killGuest))
    }

    @Test func aRestartFollowsThePolicyToo() {
        let register = PrimaryScene.paired(.manual(.freeze)).machine.register.unsafelyUnwrapped
        let record = LocalRecord(seen: register.term, register: register)
        var frozen = PrimaryScene(.manual(.freeze), guest: .ours(register.lineage), record: record)
        #expect(frozen.feed(.started).deeds == [.hold])
        #expect(frozen.machine.state == .frozen)
        var alone = PrimaryScene(.manual(.runAlone), guest: .ours(register.lineage), record: record)
        alone.feed(.started)
        alone.settle()
        #expect(alone.machine.state == .solo)
    }

    @Test func aGuestThatWasGivenAwayIsNotTakenUpAgainAfterARestart() {
        var scene = handingOver(.manual(.runAlone))
        let given = scene.settle()
        let record = given.compactMap { if case .persist(let record) = $0 { record } else { nil } }.last
        #expect(record?.register?.owner == beta)
        #expect(given.last == .askTakeOver(Term(3), guestStands: true))
        var restarted = PrimaryScene(
            .manual(.runAlone), guest: .ours(scene.machine.register.unsafelyUnwrapped.lineage),
            record: record.unsafelyUnwrapped)
        #expect(restarted.feed(.started).contains(.killGuest))
    }

    @Test func aHandoverIsNotTakenBackUnasked() {
        var scene = handingOver(.manual(.runAlone))
        scene.settle()
        #expect(scene.feed(.handOverOverdue).deeds == [])
        let lineage = scene.machine.register?.lineage
        scene.feed(.goOn)
        #expect(scene.settle().deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
        #expect(scene.machine.register?.lineage != lineage)
    }

    private func forced(from register: Register?) -> Register {
        var forced = register.unsafelyUnwrapped
        forced.term = Term(forced.term.number + 1000)
        forced.owner = beta
        forced.mode = .solo
        forced.lineage = Lineage(77)
        return forced
    }

    @Test func theHigherTermWinsWhileNothingWasLetOutAlone() {
        var scene = PrimaryScene.paired(.manual(.freeze))
        let forced = forced(from: scene.machine.register)
        scene.feed(.standbyLost(scene.session))
        #expect(scene.feed(.peerRegister(forced)).contains(.killGuest))
    }

    @Test func twoHistoriesAreNeverMerged() {
        var scene = PrimaryScene.paired(.manual(.runAlone))
        let forced = forced(from: scene.machine.register)
        scene.feed(.standbyLost(scene.session))
        scene.settle()
        let actions = scene.feed(.peerRegister(forced))
        #expect(actions.deeds == [.hold, .stopGuest, .closeLink])
        #expect(scene.machine.state == .forked)
        var kept = scene
        kept.feed(.goOn)
        #expect(kept.settle().deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
        #expect(kept.machine.register.unsafelyUnwrapped.term > forced.term)
        #expect(scene.feed(.giveUp).contains(.killGuest))
    }

    @Test func aLowerTermElsewhereChangesNothing() {
        var scene = PrimaryScene.paired(.manual(.runAlone))
        var older = scene.takenOver()
        older.term = Term(1)
        #expect(scene.feed(.peerRegister(older)) == [])
        older.owner = alpha
        older.term = Term(9)
        #expect(scene.feed(.peerRegister(older)) == [])
    }
}
