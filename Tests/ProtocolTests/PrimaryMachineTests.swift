import Model
import Protocol
import Testing

/// From taking a guest in hand to released output.
@Suite struct PrimaryMachineTests {
    // MARK: - Adopting

    @Test func nothingLeavesBeforeTheFirstClaimIsWonAndDurable() {
        var scene = PrimaryScene()
        #expect(scene.feed(.started) == [.hold, .readRegister])
        let asked = scene.feed(.registerRead(nil)).request
        #expect(asked?.expecting == nil)
        #expect(asked?.new.term == Term(1))
        #expect(asked?.new.mode == .solo)
        let won = asked.map { scene.feed(.answered($0.nonce, .applied($0.new))) }
        #expect(won == [.persist(LocalRecord(seen: Term(1), register: asked?.new))])
        #expect(scene.machine.state == .adopting)
        #expect(scene.feed(.persisted(Term(1))) == [.releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func aRestartedAgentClaimsItsTermAndLetsItsGuestRunOn() {
        let before = PrimaryScene.paired()
        let register = before.register.unsafelyUnwrapped
        var scene = PrimaryScene(
            guest: .ours(register.lineage), record: LocalRecord(seen: register.term, register: register),
            register: register)
        scene.feed(.started)
        let actions = scene.settle()
        #expect(scene.machine.state == .solo)
        #expect(scene.register?.term == Term(register.term.number + 1))
        #expect(scene.register?.mode == .solo)
        #expect(actions.deeds.suffix(3) == [.resumeGuest, .releaseEverything, .detach])
    }

    @Test func aRestartedAgentWhoseStandbyTookOverEndsItsGuest() {
        let before = PrimaryScene.paired()
        let register = before.takenOver()
        var scene = PrimaryScene(guest: .ours(register.lineage), register: register)
        scene.feed(.started)
        let actions = scene.settle()
        #expect(actions.deeds == [.hold, .readRegister, .dropHeld, .closeLink, .killGuest])
        #expect(
            scene.feed(.guestLost)
                == [.dropHeld, .becomeStandby(LocalRecord(seen: register.term, register: register))])
        #expect(scene.machine.state == .fenced)
    }

    @Test func aProcessOfAnotherLineageIsEnded() {
        let register = PrimaryScene.solo().register
        var scene = PrimaryScene(guest: .ours(Lineage(99)), register: register)
        scene.feed(.started)
        #expect(scene.settle().contains(.killGuest))
    }

    @Test func aGuestThatIsNotOursIsLeftAloneWhenItMayNotRun() {
        var owned = PrimaryScene(register: PrimaryScene.paired().takenOver())
        owned.feed(.started)
        #expect(owned.settle().deeds == [.hold, .readRegister, .releaseEverything, .detach, .end])
        var paired = PrimaryScene(register: PrimaryScene.paired().register)
        paired.feed(.started)
        #expect(!paired.settle().contains(.killGuest))
        #expect(paired.machine.state == .ended)
    }

    @Test(arguments: [PrimaryScene.paired().register, PrimaryScene.paired().takenOver()])
    func theOperatorOverridesARegister(register: Register?) {
        var scene = PrimaryScene(guest: .fresh(overridesRegister: true), register: register, seed: 8)
        scene.feed(.started)
        scene.settle()
        #expect(scene.machine.state == .solo)
        #expect(scene.register?.owner == alpha)
        #expect(scene.register?.lineage != register?.lineage)
    }

    /// Whoever is named in it said that it holds nothing; the claim is of that very register.
    @Test(arguments: [PrimaryScene.paired().register, PrimaryScene.paired().takenOver()])
    func aYieldedRegisterIsClaimed(register: Register?) {
        var scene = PrimaryScene(register: register, seed: 8)
        scene.machine.yielded = register
        scene.feed(.started)
        scene.settle()
        #expect(scene.machine.state == .solo)
        #expect(scene.register?.owner == alpha && scene.register?.lineage != register?.lineage)
    }

    @Test func aRegisterThatChangedSinceItWasYieldedIsNotClaimed() {
        let yielded = PrimaryScene.paired().takenOver()
        var later = yielded
        later.term = Term(later.term.number + 1)
        var scene = PrimaryScene(register: later, seed: 8)
        scene.machine.yielded = yielded
        scene.feed(.started)
        scene.settle()
        #expect(scene.machine.state == .ended && scene.register == later)
        // It changes between the reading and the claim.
        var racing = PrimaryScene(register: yielded, seed: 8)
        racing.machine.yielded = yielded
        racing.feed(.started)
        racing.feed(.registerRead(yielded))
        racing.register = later
        racing.settle()
        #expect(racing.machine.state == .ended && racing.register == later)
    }

    @Test(arguments: [nil, PrimaryScene.solo().register])
    func anArbiterThatForgotIsNotUsed(register: Register?) {
        var scene = PrimaryScene(guest: .ours(Lineage(1)), record: LocalRecord(seen: Term(6)), register: register)
        scene.feed(.started)
        #expect(scene.feed(.registerRead(register)).deeds == [.readRegister])
        #expect(scene.machine.state == .adopting)
    }

    @Test func anUnreadableRegisterIsReadAgain() {
        var scene = PrimaryScene()
        scene.feed(.started)
        #expect(scene.feed(.registerUnreadable("no answer")) == [.readRegister])
    }

    // MARK: - Sessions

    @Test func anOfferCarriesTheTermThatWasWon() {
        var scene = PrimaryScene.solo()
        let actions = scene.feed(.candidate(beta, asked: false))
        guard case .offer(let offer, to: beta) = actions.first else {
            Issue.record("no offer: \(actions)")
            return
        }
        #expect(offer.term == Term(1))
        #expect(offer.lineage == scene.register?.lineage)
        #expect(scene.feed(.candidate(beta, asked: true)) == [])
    }

    @Test func protectionThatIsNotAutomaticWaitsForTheOperator() {
        var scene = PrimaryScene(reprotection: .manual)
        scene.feed(.started)
        scene.settle()
        #expect(scene.feed(.candidate(beta, asked: false)) == [])
        #expect(scene.feed(.candidate(beta, asked: true)).count == 1)
    }

    @Test func onlyTheNodeThatWasAskedMayAccept() {
        var scene = PrimaryScene.solo()
        scene.feed(.candidate(beta, asked: false))
        #expect(scene.feed(.accepted(scene.session, StandbyIdentity(node: alpha, incarnation: 1))) == [])
        #expect(scene.feed(.accepted(SessionID(1), standby)) == [])
        #expect(scene.feed(.accepted(scene.session, standby)) == [.startCopy])
    }

    @Test func aRefusalOrASilentNodeLeavesTheGuestAlone() {
        var refused = PrimaryScene.solo()
        refused.feed(.candidate(beta, asked: false))
        #expect(refused.feed(.refused(refused.session, "no room")).deeds == [.closeLink])
        #expect(refused.machine.state == .solo)
        var silent = PrimaryScene.solo()
        silent.feed(.candidate(beta, asked: false))
        #expect(silent.feed(.standbyLost(silent.session)) == [.closeLink])
        #expect(silent.machine.state == .solo)
    }

    @Test func theFirstCopyCanBreakOffWithoutAsking() {
        var scene = PrimaryScene.copying()
        #expect(scene.feed(.standbyLost(scene.session)) == [.closeLink, .releaseEverything, .detach])
        #expect(scene.machine.state == .solo)
    }

    @Test func outputIsHeldBeforePairedIsAskedFor() {
        var scene = PrimaryScene.copying()
        #expect(scene.feed(.sealed(scene.session, Epoch(1))) == [.hold])
        let actions = scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true))
        #expect(actions.first == .release(through: Epoch(1)))
        #expect(actions.request?.new.mode == .paired)
        #expect(actions.request?.new.standby == standby)
        #expect(actions.request?.new.session == scene.session)
        scene.settle()
        #expect(scene.machine.session?.acknowledged == Epoch(1))
        #expect(scene.machine.register?.mode == .paired)
    }

    @Test func theStandbyIsToldTheRegisterOnceItIsDurable() {
        var scene = PrimaryScene.pairing()
        let asked = scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true)).request.unsafelyUnwrapped
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        #expect(scene.feed(.persisted(asked.new.term)) == [.tellRegister(asked.new)])
    }

    @Test func outputLeavesOnlyWithItsAcknowledgement() {
        var scene = PrimaryScene.paired()
        #expect(scene.feed(.sealed(scene.session, Epoch(4))) == [])
        #expect(
            scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true)) == [.release(through: Epoch(2))])
        #expect(scene.machine.acknowledged == Epoch(2))
    }

    @Test func acknowledgementsOfAnotherSessionReleaseNothing() {
        var scene = PrimaryScene.paired()
        #expect(scene.feed(.acknowledged(SessionID(3), Epoch(2), digestMatches: true)) == [])
        #expect(scene.machine.acknowledged == Epoch(1))
    }

    @Test(arguments: [(2, false), (3, true), (9, true), (1, true)])
    func aWrongAcknowledgementReleasesNothing(epoch: UInt64, digestMatches: Bool) {
        var scene = PrimaryScene.paired()
        let actions = scene.feed(.acknowledged(scene.session, Epoch(epoch), digestMatches: digestMatches))
        #expect(!actions.contains(.release(through: Epoch(epoch))))
        #expect(actions.deeds.first == .closeLink)
        #expect(scene.machine.state == .lonely)
        #expect(scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true)) == [])
    }

    // MARK: - The guest ends

    @Test func aDeadGuestIsTakenOverFromItsPair() {
        var scene = PrimaryScene.paired()
        let actions = scene.feed(.guestLost)
        #expect(actions.prefix(2) == [.askTakeOver(Term(3), guestStands: false), .dropHeld])
        #expect(scene.machine.state == .fenced)
        #expect(scene.feed(.acknowledged(scene.session, Epoch(2), digestMatches: true)) == [])
    }

    @Test func aGuestThatDiesWhilePairedIsAskedForMayBeTakenOver() {
        var scene = PrimaryScene.pairing()
        scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true))
        #expect(scene.feed(.guestLost).first == .askTakeOver(Term(3), guestStands: false))
        var unasked = PrimaryScene.pairing()
        #expect(unasked.feed(.guestLost).deeds == [.dismissStandby, .closeLink, .end])
    }

    @Test func aGuestThatIsShutDownIsNotTakenOver() {
        var scene = PrimaryScene.paired()
        #expect(scene.feed(.guestEnded) == [.dismissStandby, .closeLink, .end])
        #expect(scene.feed(.guestLost) == [])
    }
}
