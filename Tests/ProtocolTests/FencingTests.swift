import Model
import Protocol
import Testing

/// Fencing as an input of the two machines (I30 to I33).
@Suite struct FencingTests {
    // MARK: - The primary

    private func lonelyPrimary() -> (PrimaryScene, Nonce) {
        var scene = PrimaryScene.paired(.manual(.runAlone), fences: [beta])
        let nonce = scene.feed(.standbyLost(scene.session)).fencing
        scene.ignore()
        return (scene, nonce ?? Nonce(0))
    }

    @Test func aPrimaryThatCanFenceItsStandbyPromisesToWait() {
        func offered(_ rule: Rule, _ fences: Set<NodeName>) -> Bool? {
            var scene = PrimaryScene.solo(rule, fences: fences)
            for case .offer(let offer, _) in scene.feed(.candidate(beta, asked: true)) { return offer.waits }
            return nil
        }
        #expect(offered(.manual(.runAlone), [beta]) == true)
        #expect(offered(.manual(.runAlone), [alpha]) == false)
        #expect(offered(.arbiter, [beta]) == false)
    }

    @Test func aPrimaryThatLostItsStandbyHoldsUntilThatIsConfirmedOff() {
        var scene = PrimaryScene.paired(.manual(.runAlone), fences: [beta])
        let lost = scene.feed(.standbyLost(scene.session))
        #expect(scene.machine.state == .frozen)
        #expect(!lost.releasesFreely)
        let nonce = lost.fencing
        let lineage = scene.machine.lineage
        scene.ignore()
        scene.feed(.peerFenced(nonce.unsafelyUnwrapped))
        #expect(scene.settle().releasesFreely)
        #expect(scene.machine.state == .solo)
        #expect(scene.machine.register?.lineage == lineage, "the standby is gone: the history is one")
    }

    @Test func whatIsNotConfirmedChangesNothingAndIsAskedAgain() {
        var (scene, nonce) = lonelyPrimary()
        let again = scene.feed(.fencingFailed(nonce, "exit code 1"))
        let second = again.fencing
        #expect(second != nil && second != nonce)
        #expect(scene.machine.state == .frozen)
        // The answer to the earlier asking came late.
        #expect(scene.feed(.peerFenced(nonce)) == [])
        #expect(scene.feed(.fencingFailed(nonce, "late")) == [])
        scene.ignore()
        scene.feed(.peerFenced(second.unsafelyUnwrapped))
        #expect(scene.settle().releasesFreely)
    }

    @Test func aConfirmationIsOfNoUseOnceThePeerWasHeard() {
        var (scene, nonce) = lonelyPrimary()
        #expect(scene.feed(.peerHeard(beta)).deeds == [.stopFencing])
        #expect(scene.feed(.peerFenced(nonce)) == [])
        #expect(scene.machine.state == .frozen)
    }

    @Test func anOfferOfThePeerIsASignOfLife() {
        var (scene, nonce) = lonelyPrimary()
        var old = scene.takenOver()
        old.term = Term(0)
        #expect(scene.feed(.peerRegister(old)).deeds == [.stopFencing])
        #expect(scene.feed(.peerFenced(nonce)) == [])
    }

    @Test func theOperatorsWordInPlaceOfFencingBeginsAnotherHistory() {
        var (scene, nonce) = lonelyPrimary()
        let lineage = scene.machine.lineage
        #expect(scene.feed(.goOn).contains(.stopFencing))
        #expect(scene.settle().releasesFreely)
        #expect(scene.machine.register?.lineage != lineage)
        #expect(scene.feed(.peerFenced(nonce)) == [])
    }

    @Test func aRestartedAgentKeepsThePromiseAndFencesNobody() {
        var scene = PrimaryScene.paired(.manual(.runAlone), fences: [beta])
        let record = scene.machine.record
        #expect(record.waits == true)
        // Even where the command was taken out of the configuration meanwhile.
        var restarted = PrimaryScene(.manual(.runAlone), guest: .ours(scene.machine.lineage), record: record, seed: 8)
        let actions = restarted.feed(.started)
        #expect(restarted.machine.state == .frozen)
        #expect(actions.fencing == nil && !actions.releasesFreely)
        restarted.feed(.goOn)
        restarted.settle()
        #expect(restarted.machine.register?.lineage != scene.machine.lineage)
        #expect(restarted.machine.record.waits == nil)
        scene.ignore()
    }

    @Test func protectionEndsOnlyWhenTheStandbyHasLetGo() {
        var scene = PrimaryScene.paired(.manual(.runAlone), fences: [beta])
        let session = scene.session
        #expect(scene.feed(.unprotect) == [.dismissStandby])
        #expect(scene.settle() == [.dismissStandby])
        scene.feed(.letGo(SessionID(999)))
        #expect(!scene.settle().contains(.end))
        scene.feed(.letGo(session))
        // The link ends with it, before or after the record is durable.
        scene.feed(.standbyLost(session))
        #expect(scene.settle().contains(.end))
        #expect(scene.machine.state == .ended)
    }

    @Test func aStandbyThatDoesNotLetGoIsFenced() {
        var scene = PrimaryScene.paired(.manual(.runAlone), fences: [beta])
        scene.feed(.unprotect)
        let nonce = scene.feed(.standbyLost(scene.session)).fencing
        #expect(scene.machine.state == .frozen)
        scene.ignore()
        scene.feed(.peerFenced(nonce.unsafelyUnwrapped))
        #expect(scene.settle().contains(.end))
    }

    @Test func withAnArbiterAPrimaryFencesNobody() {
        var scene = PrimaryScene.paired(.arbiter, fences: [beta])
        #expect(scene.feed(.standbyLost(scene.session)).fencing == nil)
        #expect(scene.machine.state == .lonely)
    }

    // MARK: - The standby

    private func orphan() -> (StandbyScene, Nonce) {
        var scene = StandbyScene.holding(.manual(.runAlone), fences: [alpha])
        let nonce = scene.feed(.linkLost(offer.session)).fencing
        return (scene, nonce ?? Nonce(0))
    }

    @Test func anOrphanThatFencedItsPrimaryGoesOnInTheSameHistory() {
        var (scene, nonce) = orphan()
        #expect(scene.machine.state == .orphaned)
        let actions = scene.feed(.peerFenced(nonce))
        #expect(scene.machine.state == .takingOver(isRecorded: false))
        #expect(actions.deeds == [.closeLink, .persist(scene.machine.record)])
        #expect(scene.machine.register == scene.solo(beta, term: 6))
    }

    @Test func whatIsNotConfirmedLeavesTheOrphanAsItWas() {
        var (scene, nonce) = orphan()
        let second = scene.feed(.fencingFailed(nonce, "it took longer than 20000 ms")).fencing
        #expect(second != nil && second != nonce)
        #expect(scene.feed(.peerFenced(nonce)) == [])
        #expect(scene.machine.state == .orphaned)
        #expect(scene.feed(.force).first == .stopFencing)
        #expect(scene.machine.register?.lineage != offer.lineage)
    }

    @Test func aPrimaryThatComesBackIsNotFenced() {
        var (scene, nonce) = orphan()
        #expect(scene.feed(.peerHeard(beta)) == [])
        #expect(scene.feed(.peerHeard(alpha)).deeds == [.stopFencing])
        #expect(scene.feed(.peerFenced(nonce)) == [])
        #expect(scene.machine.state == .orphaned)
        (scene, nonce) = orphan()
        #expect(scene.feed(.offered(offer)).first == .stopFencing, "an offer that is refused is a sign of life")
        #expect(scene.feed(.peerFenced(nonce)) == [])
    }

    @Test func nobodyIsFencedWithoutAPromiseAndAPair() {
        var scene = StandbyScene.holding(.manual(.runAlone), fences: [alpha], isPromised: false)
        #expect(scene.feed(.linkLost(offer.session)).fencing == nil)
        scene = StandbyScene.receiving(.manual(.runAlone), fences: [alpha])
        scene.feed(.staged(offer.session, Epoch(1)))
        scene.feed(.applied(offer.session, Epoch(1)))
        #expect(scene.machine.state == .holding)
        #expect(scene.feed(.linkLost(offer.session)).fencing == nil)
        #expect(scene.machine.state == .orphaned)
    }

    @Test func anImageThatARestartedAgentFoundFencesNobody() {
        let (scene, _) = orphan()
        var found = StandbyMachine(
            node: beta, rule: .manual(.runAlone), record: scene.machine.record, fences: [alpha], seed: 4,
            found: scene.machine.image.unsafelyUnwrapped, staged: Epoch(2), applied: Epoch(2),
            isLoaded: false)
        #expect(found.handle(.started).fencing == nil)
        #expect(found.state == .orphaned)
    }

    @Test func aDismissalIsAnswered() {
        var scene = StandbyScene.holding(.manual(.runAlone))
        #expect(
            scene.feed(.dismissed(offer.session)) == [.confirmDismissal(offer.session), .closeLink, .dismantle])
    }

    @Test func withAnArbiterASilentPrimaryIsFencedAfterTheTakeoverWasWon() {
        var scene = StandbyScene.holding(.arbiter, fences: [alpha])
        let lost = scene.feed(.linkLost(offer.session))
        #expect(lost.fencing == nil)
        let asked = lost.request.unsafelyUnwrapped
        let won = scene.feed(.answered(asked.nonce, .applied(asked.new)))
        #expect(won.fencing != nil)
        #expect(won.first == .closeLink)
    }

    @Test func withAnArbiterAPrimaryThatAskedForTheTakeoverIsNotFenced() {
        var scene = StandbyScene.holding(.arbiter, fences: [alpha])
        let asked = scene.feed(.takeOver(offer.session, Term(6), guestStands: false)).request.unsafelyUnwrapped
        #expect(scene.feed(.answered(asked.nonce, .applied(asked.new))).fencing == nil)
    }
}
