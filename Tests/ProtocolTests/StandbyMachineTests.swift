import Model
import Protocol
import Testing

@Suite struct StandbyMachineTests {
    // MARK: - Sessions

    @Test func aSessionIsAcceptedOnceItsTermIsDurableAndTheReplicaReady() {
        var scene = StandbyScene()
        let actions = scene.feed(.offered(offer))
        let identity = scene.machine.image?.identity
        #expect(actions == [.persist(LocalRecord(seen: Term(4))), .prepare(offer, identity.unsafelyUnwrapped)])
        #expect(identity?.incarnation != 0)
        #expect(scene.feed(.prepared(offer.session)) == [])
        #expect(scene.feed(.persisted(Term(3))) == [])
        #expect(scene.feed(.persisted(Term(4))) == [.accept(offer.session, identity.unsafelyUnwrapped)])
        #expect(scene.machine.state == .receiving)
    }

    @Test func anOfferOfAnOlderTermIsRefusedWithWhatIsKnown() {
        let known = StandbyScene().solo(alpha, term: 9)
        var scene = StandbyScene(record: LocalRecord(seen: Term(9), register: known))
        guard case .refuse(offer.session, _, knows: known) = scene.feed(.offered(offer)).first else {
            Issue.record("an old offer was taken up")
            return
        }
        #expect(scene.machine.state == .none)
    }

    @Test func everyImageHasAnotherIncarnation() {
        var scene = StandbyScene()
        scene.feed(.offered(offer))
        let first = scene.machine.image?.identity
        scene.feed(.linkLost(offer.session))
        scene.feed(.offered(offer))
        #expect(scene.machine.image?.identity != first)
    }

    @Test func aNewerOfferReplacesTheImage() {
        var scene = StandbyScene.holding()
        var next = offer
        next.session = SessionID(12)
        guard case .refuse = scene.feed(.offered(next)).first else {
            Issue.record("an offer older than the register was taken up")
            return
        }
        next.term = Term(6)
        let actions = scene.feed(.offered(next))
        #expect(actions.prefix(2) == [.closeLink, .dismantle])
        #expect(scene.machine.image?.session == SessionID(12))
    }

    @Test func aReplicaThatCannotBeMadeIsRefused() {
        var scene = StandbyScene()
        scene.feed(.offered(offer))
        let actions = scene.feed(.prepareFailed(offer.session, "no memory"))
        #expect(actions == [.refuse(offer.session, "no memory", knows: nil), .dismantle])
        #expect(scene.machine.state == .none)
    }

    // MARK: - Epochs

    @Test func nothingIsAcknowledgedBeforeTheFirstCheckpointIsApplied() {
        var scene = StandbyScene.receiving()
        #expect(scene.feed(.staged(offer.session, Epoch(1))) == [.apply(Epoch(1))])
        #expect(scene.feed(.staged(offer.session, Epoch(2))) == [.apply(Epoch(2))])
        #expect(scene.feed(.applied(offer.session, Epoch(1))) == [.acknowledge(Epoch(1)), .acknowledge(Epoch(2))])
        #expect(scene.feed(.staged(offer.session, Epoch(3))) == [.acknowledge(Epoch(3)), .apply(Epoch(3))])
    }

    @Test func aGapEndsTheSession() {
        var scene = StandbyScene.holding(.manual(.runAlone))
        let actions = scene.feed(.staged(offer.session, Epoch(4)))
        #expect(!actions.contains(.acknowledge(Epoch(4))))
        #expect(actions.contains(.closeLink))
        #expect(scene.machine.state == .orphaned)
        #expect(scene.machine.staged == Epoch(2))
    }

    @Test func framesOfAnotherSessionCountForNothing() {
        var scene = StandbyScene.holding()
        #expect(scene.feed(.staged(SessionID(3), Epoch(3))) == [])
        #expect(scene.feed(.applied(SessionID(3), Epoch(2))) == [])
        #expect(scene.feed(.takeOver(SessionID(3), Term(6), guestStands: false)) == [])
        #expect(scene.feed(.linkLost(SessionID(3))) == [])
        #expect(scene.feed(.dismissed(SessionID(3))) == [])
    }

    @Test func aRegisterIsTakenNoteOfOnlyWhenItNamesThisImage() {
        var scene = StandbyScene.holding()
        var other = scene.pair
        other.term = Term(6)
        #expect(
            scene.feed(.registerTold(offer.session, other)) == [.persist(LocalRecord(seen: Term(6), register: other))])
        other.term = Term(7)
        other.standby?.incarnation += 1
        #expect(scene.feed(.registerTold(offer.session, other)) == [])
    }

    @Test func anUnfinishedCopyIsOfNoUse() {
        var scene = StandbyScene.receiving()
        scene.feed(.staged(offer.session, Epoch(1)))
        #expect(scene.feed(.takeOver(offer.session, Term(6), guestStands: false)) == [])
        #expect(scene.feed(.linkLost(offer.session)) == [.dismantle])
    }

    @Test(arguments: [StandbyScene.receiving(), .holding()])
    func aDismissedStandbyGivesItsImageUp(scene: StandbyScene) {
        var scene = scene
        #expect(scene.feed(.dismissed(offer.session)) == [.confirmDismissal(offer.session), .closeLink, .dismantle])
        #expect(scene.machine.state == .none)
    }

    @Test(arguments: [StandbyScene.receiving(), .holding(), .arbitrating()])
    func aLostImageIsGivenUp(scene: StandbyScene) {
        var scene = scene
        #expect(scene.feed(.imageLost("its QEMU ended")).deeds == [.closeLink, .dismantle])
        #expect(scene.machine.image == nil)
    }

    // MARK: - Taking over with an arbiter

    @Test func aLostLinkIsAQuestionToTheArbiter() {
        var scene = StandbyScene.holding()
        let actions = scene.feed(.linkLost(offer.session))
        #expect(actions.prefix(2) == [.discard(after: Epoch(2)), .reportPrimaryLost])
        #expect(actions.request?.expecting == scene.pair)
        #expect(actions.request?.new == scene.solo(beta, term: 6))
        #expect(scene.feed(.staged(offer.session, Epoch(3))) == [])
    }

    @Test func whoWasNotToldTheRegisterReadsItFirst() {
        var scene = StandbyScene.receiving()
        scene.feed(.staged(offer.session, Epoch(1)))
        scene.feed(.applied(offer.session, Epoch(1)))
        #expect(scene.feed(.linkLost(offer.session)).last == .readRegister)
        #expect(scene.feed(.registerRead(scene.pair)).request?.new == scene.solo(beta, term: 6))
    }

    @Test func theGuestIsResumedWhenTheTermIsDurableAndEverythingLoaded() {
        var scene = StandbyScene.holding()
        let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        #expect(
            scene.feed(.answered(asked.nonce, .applied(asked.new)))
                == [.closeLink, .persist(LocalRecord(seen: Term(6), register: asked.new))])
        #expect(scene.feed(.staged(offer.session, Epoch(3))) == [])
        #expect(scene.feed(.persisted(Term(6))) == [])
        #expect(scene.feed(.applied(offer.session, Epoch(2))) == [.load(from: Epoch(2))])
        #expect(scene.feed(.loaded) == [.resume(from: Epoch(2))])
        #expect(scene.feed(.resumed) == [.becomePrimary(asked.new)])
        #expect(scene.machine.state == .running)
    }

    /// The arbiter is asked, and QEMU is loading epoch 2.
    private func loadingWhileAsking() -> (
        scene: StandbyScene, asked: (expecting: Register?, new: Register, nonce: Nonce)
    ) {
        var scene = StandbyScene.holding()
        scene.feed(.applied(offer.session, Epoch(2)))
        let actions = scene.feed(.linkLost(offer.session))
        #expect(actions.prefix(3) == [.discard(after: Epoch(2)), .reportPrimaryLost, .load(from: Epoch(2))])
        return (scene, actions.request.unsafelyUnwrapped)
    }

    @Test func whatIsLoadedRunsOnceTheTermIsWonAndDurable() {
        var (scene, asked) = loadingWhileAsking()
        #expect(scene.feed(.loaded) == [])
        #expect(
            scene.feed(.answered(asked.nonce, .applied(asked.new))) == [.closeLink, .persist(scene.machine.record)])
        #expect(scene.feed(.persisted(Term(5))) == [])
        #expect(scene.feed(.persisted(Term(6))) == [.resume(from: Epoch(2))])
    }

    @Test func whatIsLoadedInVainIsGivenUp() {
        var (scene, asked) = loadingWhileAsking()
        let actions = scene.feed(.answered(asked.nonce, .conflict(scene.solo(alpha, term: 6))))
        #expect(actions.deeds == [.closeLink, .dismantle])
        #expect(scene.feed(.loaded) == [])
        #expect(scene.machine.loading == .waiting)
    }

    @Test func aStateThatWasRefusedWhileTheArbiterWasAskedIsSeenAfterTheWin() {
        var (scene, asked) = loadingWhileAsking()
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [])
        #expect(scene.feed(.imageLost("its QEMU ended")) == [])
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        #expect(scene.feed(.persisted(Term(6))).deeds == [])
        #expect(scene.machine.state == .failed)
        #expect(scene.feed(.force) == [.load(from: Epoch(2))])
        #expect(scene.feed(.loaded) == [.resume(from: Epoch(2))])
    }

    @Test func anImageThatIsLostOnceItWasLoadedIsGivenUp() {
        var (scene, _) = loadingWhileAsking()
        scene.feed(.loaded)
        #expect(scene.feed(.imageLost("its QEMU ended")).deeds == [.closeLink, .dismantle])
    }

    @Test func anUnknownAnswerIsReadAndAskedAgain() {
        var scene = StandbyScene.holding()
        let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        #expect(scene.feed(.answered(asked.nonce, .unknown("no answer"))) == [.readRegister])
        #expect(
            scene.feed(.registerRead(scene.pair))
                == [.compareAndSet(expecting: scene.pair, to: asked.new, nonce: asked.nonce)])
        #expect(scene.feed(.registerUnreadable("no answer")) == [.readRegister])
        #expect(scene.feed(.registerRead(asked.new)).first == .closeLink)
        #expect(scene.machine.register == asked.new)
    }

    @Test func aPrimaryThatWentOnAloneMakesTheImageOutdated() {
        var scene = StandbyScene.holding()
        let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        let actions = scene.feed(.answered(asked.nonce, .conflict(scene.solo(alpha, term: 6))))
        #expect(actions.deeds == [.closeLink, .dismantle])
        #expect(scene.machine.state == .none)
        // I11: what was read counts from now on.
        guard case .refuse = scene.feed(.offered(offer)).first else {
            Issue.record("an offer of an older term was taken up")
            return
        }
    }

    @Test func aPairThatMayStillBeAskedForIsWaitedFor() {
        var scene = StandbyScene.receiving()
        scene.feed(.staged(offer.session, Epoch(1)))
        scene.feed(.applied(offer.session, Epoch(1)))
        scene.feed(.linkLost(offer.session))
        #expect(scene.feed(.registerRead(scene.solo(alpha, term: 4))) == [.readRegister])
        #expect(scene.feed(.registerRead(scene.pair)).request != nil)
    }

    @Test func aPairThatNamesAnotherImageIsNotTakenOver() {
        for change in 0..<3 {
            var scene = StandbyScene.holding()
            let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
            var other = scene.pair
            other.term = Term(7)
            switch change {
            case 0: other.standby?.incarnation += 1
            case 1: other.session = SessionID(12)
            default: other.lineage = Lineage(6)
            }
            #expect(scene.feed(.answered(asked.nonce, .conflict(other))).request == nil)
            #expect(scene.machine.state == .none)
        }
    }

    @Test func anArbiterThatForgotIsNotUsed() {
        var scene = StandbyScene.arbitrating()
        #expect(scene.feed(.registerRead(nil)).deeds == [.readRegister])
        #expect(scene.feed(.registerRead(scene.solo(alpha, term: 2))).deeds == [.readRegister])
        #expect(scene.machine.state == .arbitrating)
    }

    @Test func anImageIsNotGivenUpWhileTheAnswerIsOpen() {
        var scene = StandbyScene.arbitrating()
        guard case .refuseCommand = scene.feed(.giveUp).first else {
            Issue.record("the image was given up")
            return
        }
        #expect(scene.machine.state == .arbitrating)
    }

    @Test func thePrimarysAgentCanAsk() {
        var scene = StandbyScene.holding()
        let actions = scene.feed(.takeOver(offer.session, Term(6), guestStands: false))
        #expect(actions.first == .discard(after: Epoch(2)))
        #expect(actions.request?.new == scene.solo(beta, term: 6))
    }

    @Test func whatQEMURefusedCanBeTriedAgain() {
        var scene = StandbyScene.holding()
        let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        scene.feed(.persisted(Term(6)))
        scene.feed(.applied(offer.session, Epoch(2)))
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [])
        #expect(scene.machine.state == .failed)
        #expect(scene.feed(.force) == [.load(from: Epoch(2))])
        #expect(scene.feed(.loaded) == [.resume(from: Epoch(2))])
        #expect(scene.feed(.resumeFailed("no answer")).deeds == [])
        #expect(scene.feed(.force) == [.resume(from: Epoch(2))])
    }

    // MARK: - Switchover

    /// The primary asked for a switchover, and QEMU is loading the state.
    private func loading(_ rule: Rule = .arbiter) -> StandbyScene {
        var scene = StandbyScene.holding(rule)
        let asked = scene.feed(.takeOver(offer.session, Term(6), guestStands: true))
        if rule == .arbiter {
            #expect(asked == [.readRegister], "nothing that cannot be undone before the arbiter answers")
            #expect(scene.feed(.registerRead(scene.pair)) == [.discard(after: Epoch(2))])
        } else {
            #expect(asked == [.discard(after: Epoch(2))], "epoch 2 is not applied yet")
        }
        #expect(scene.feed(.applied(offer.session, Epoch(2))) == [.load(from: Epoch(2))])
        return scene
    }

    @Test func theStateIsLoadedBeforeTheArbiterIsAsked() {
        var scene = loading()
        #expect(scene.feed(.staged(offer.session, Epoch(3))) == [])
        let asked = scene.feed(.loaded).request.unsafelyUnwrapped
        #expect(asked.new == scene.solo(beta, term: 6))
        // The link stays: the primary is to be told what comes of it.
        #expect(scene.feed(.answered(asked.nonce, .applied(asked.new))) == [.persist(scene.machine.record)])
        #expect(scene.feed(.persisted(Term(6))) == [.resume(from: Epoch(2))])
        let register = scene.solo(beta, term: 6)
        #expect(scene.feed(.resumed) == [.tellRunning(register), .closeLink, .becomePrimary(register)])
    }

    /// I34: it has loaded nothing and asked nobody, so it is the standby as before.
    @Test func aStandbyThatCannotAskTheArbiterDeclines() {
        for answer in [StandbyMachine.Event.registerUnreadable("no answer"), .registerRead(nil)] {
            var scene = StandbyScene.holding()
            scene.feed(.takeOver(offer.session, Term(6), guestStands: true))
            #expect(scene.feed(.staged(offer.session, Epoch(3))) == [])
            scene = StandbyScene.holding()
            scene.feed(.takeOver(offer.session, Term(6), guestStands: true))
            let declined = scene.feed(answer)
            guard declined.count == 1, case .decline(offer.session, _) = declined.first else {
                Issue.record("\(answer) led to \(declined)")
                continue
            }
            #expect(
                scene.feed(.staged(offer.session, Epoch(3))) == [.acknowledge(Epoch(3)), .apply(Epoch(3))])
        }
    }

    @Test func aPrimaryThatIsLostWhileTheArbiterIsReadIsReplaced() {
        var scene = StandbyScene.holding()
        scene.feed(.takeOver(offer.session, Term(6), guestStands: true))
        let actions = scene.feed(.linkLost(offer.session))
        #expect(actions.request?.new == scene.solo(beta, term: 6))
        #expect(scene.machine.state == .arbitrating)
    }

    @Test func withoutAnArbiterThePrimarysWordIsEnough() {
        var scene = loading(.manual(.runAlone))
        scene.feed(.loaded)
        #expect(scene.machine.register == scene.solo(beta, term: 6))
        #expect(scene.feed(.persisted(Term(6))) == [.resume(from: Epoch(2))])
    }

    @Test(arguments: [Rule.arbiter, .manual(.runAlone)])
    func aGuestWhoseStateIsRefusedIsGivenBackWhenItsQEMUIsGone(rule: Rule) {
        for event in [StandbyMachine.Event.loadFailed("wrong machine"), .imageLost("QEMU ended")] {
            var scene = loading(rule)
            #expect(scene.feed(event).deeds == [.endReplica])
            guard case .refuseCommand = scene.feed(.force).first else {
                Issue.record("forced while the guest is given back")
                return
            }
            #expect(scene.feed(.replicaEnded) == [.giveBack(offer.session), .closeLink, .dismantle])
            #expect(scene.machine.state == .none)
        }
    }

    @Test func aPrimaryThatTookItsGuestBackMakesWhatWasLoadedUseless() {
        var scene = loading()
        scene.feed(.linkLost(offer.session))
        let asked = scene.feed(.loaded).request.unsafelyUnwrapped
        let actions = scene.feed(.answered(asked.nonce, .conflict(scene.solo(alpha, term: 6))))
        #expect(actions.deeds == [.closeLink, .dismantle])
    }

    // MARK: - Restart

    private func restarted(
        _ rule: Rule, register: Register?, isLoaded: Bool = false
    ) -> StandbyMachine {
        let before = StandbyScene.holding()
        return StandbyMachine(
            node: beta, rule: rule, record: LocalRecord(seen: Term(5), register: register), seed: 3,
            found: before.machine.image.unsafelyUnwrapped, staged: Epoch(7), applied: Epoch(7), isLoaded: isLoaded)
    }

    @Test func aFoundImageAsksTheArbiter() {
        let pair = StandbyScene.holding().pair
        var machine = restarted(.arbiter, register: pair)
        #expect(machine.handle(.staged(offer.session, Epoch(8))) == [])
        #expect(machine.handle(.started).request?.expecting == pair)
    }

    @Test func whatWasWonBeforeTheRestartIsFollowed() {
        var machine = restarted(.arbiter, register: StandbyScene().solo(beta, term: 6))
        #expect(machine.handle(.started) == [.closeLink, .persist(machine.record), .load(from: Epoch(7))])
        #expect(machine.handle(.persisted(Term(6))) == [])
        #expect(machine.handle(.loaded) == [.resume(from: Epoch(7))])
    }

    @Test func whatWasLoadedBeforeTheRestartIsNotLoadedAgain() {
        let pair = StandbyScene.holding().pair
        var machine = restarted(.arbiter, register: pair, isLoaded: true)
        let actions = machine.handle(.started)
        #expect(!actions.contains(.load(from: Epoch(7))))
        let asked = actions.request.unsafelyUnwrapped
        _ = machine.handle(.answered(asked.nonce, .applied(asked.new)))
        #expect(machine.handle(.persisted(Term(6))) == [.resume(from: Epoch(7))])
    }

    @Test func aFoundImageWaitsForTheOperatorWhenThereIsNoArbiter() {
        var machine = restarted(.manual(.runAlone), register: nil)
        #expect(machine.handle(.started) == [.reportPrimaryLost])
        #expect(machine.state == .orphaned)
    }

    // MARK: - Without an arbiter

    @Test func theStandbyNeverTakesOverByItself() {
        var scene = StandbyScene.holding(.manual(.runAlone))
        #expect(scene.feed(.linkLost(offer.session)) == [.discard(after: Epoch(2)), .reportPrimaryLost])
        #expect(scene.machine.state == .orphaned)
        #expect(scene.feed(.staged(offer.session, Epoch(3))) == [])
        #expect(scene.feed(.giveUp) == [.dismantle])
    }

    @Test func thePrimarysAgentHandsTheTermOver() {
        var scene = StandbyScene.holding(.manual(.runAlone))
        let actions = scene.feed(.takeOver(offer.session, Term(6), guestStands: false))
        #expect(scene.machine.register == scene.solo(beta, term: 6))
        #expect(actions.last == .persist(LocalRecord(seen: Term(6), register: scene.machine.register)))
    }

    @Test func theOperatorsWordBeginsAnotherHistoryFarAhead() {
        var scene = StandbyScene.holding(.manual(.runAlone))
        guard case .refuseCommand = scene.feed(.force).first else {
            Issue.record("forced although the primary is there")
            return
        }
        scene.feed(.linkLost(offer.session))
        scene.feed(.force)
        #expect(scene.machine.register?.term == Term(1005))
        #expect(scene.machine.register?.lineage != offer.lineage)
        #expect(scene.machine.state == .takingOver(isRecorded: false))
    }
}
