import Model
import Protocol
import Testing

/// A failover whose checkpoint no QEMU loads: the guest is booted from its disk, where it could have been resumed.
@Suite struct ColdBootTests {
    /// Everything staged is applied and being loaded; the arbiter is asked.
    private func loading() -> (scene: StandbyScene, asked: (expecting: Register?, new: Register, nonce: Nonce)) {
        var scene = StandbyScene.holding(boots: true)
        let asked = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        scene.feed(.applied(offer.session, Epoch(2)))
        return (scene, asked)
    }

    /// The same under a handover of the guest, which stands still at the primary.
    private func handedOver() -> StandbyScene {
        var scene = StandbyScene.holding(boots: true)
        scene.feed(.takeOver(offer.session, Term(6), guestStands: true))
        scene.feed(.registerRead(scene.pair))
        scene.feed(.applied(offer.session, Epoch(2)))
        return scene
    }

    @Test func aGuestWhoseStateIsRefusedIsBootedOnceTheTermIsWonAndDurable() {
        var (scene, asked) = loading()
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [])
        #expect(
            scene.feed(.answered(asked.nonce, .applied(asked.new))) == [.closeLink, .persist(scene.machine.record)])
        let actions = scene.feed(.persisted(Term(6)))
        #expect(actions.deeds == [.boot(from: Epoch(2))])
        guard case .report(let words) = actions.first else {
            Issue.record("nothing is said of it")
            return
        }
        #expect(words.contains("the guest's memory is lost, and it is booted from its disk as of epoch 2"))
        #expect(scene.feed(.imageLost("its QEMU ended")) == [])
        #expect(scene.feed(.resumed) == [.becomePrimary(asked.new)])
        #expect(scene.machine.state == .running)
    }

    @Test func whatIsRefusedAfterTheWinIsBootedAtOnce() {
        var (scene, asked) = loading()
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        scene.feed(.persisted(Term(6)))
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [.boot(from: Epoch(2))])
    }

    /// Its disk is whole without it.
    @Test func aQEMUThatIsLostWithWhatItHadLoadedIsNotNeeded() {
        var (scene, asked) = loading()
        scene.feed(.loaded)
        #expect(scene.machine.mayBoot)
        #expect(scene.feed(.loadFailed("it was killed")).deeds == [])
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        #expect(scene.feed(.persisted(Term(6))).deeds == [.boot(from: Epoch(2))])
    }

    @Test func nothingIsBootedWithoutTheWin() {
        var (scene, asked) = loading()
        scene.feed(.loadFailed("wrong machine"))
        let actions = scene.feed(.answered(asked.nonce, .conflict(scene.solo(alpha, term: 6))))
        #expect(actions.deeds == [.closeLink, .dismantle])
    }

    /// A disk that could not be written is none to boot from.
    @Test func aReplicaThatFailedIsNotBooted() {
        var scene = StandbyScene.holding(boots: true)
        scene.feed(.linkLost(offer.session))
        #expect(scene.feed(.imageLost("the disk is full")).deeds == [.closeLink, .dismantle])
    }

    @Test func nothingIsBootedAtASwitchover() {
        var scene = handedOver()
        #expect(!scene.machine.mayBoot)
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [.endReplica])
        #expect(scene.feed(.replicaEnded) == [.giveBack(offer.session), .closeLink, .dismantle])

        scene = handedOver()
        let asked = scene.feed(.loaded).request.unsafelyUnwrapped
        #expect(!scene.machine.mayBoot)
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        #expect(!scene.machine.mayBoot && scene.feed(.loadFailed("it was killed")) == [])
    }

    @Test func aBootThatFailsIsTriedAgainAtTheOperatorsWord() {
        var (scene, asked) = loading()
        scene.feed(.answered(asked.nonce, .applied(asked.new)))
        scene.feed(.persisted(Term(6)))
        scene.feed(.loadFailed("wrong machine"))
        #expect(scene.feed(.resumeFailed("no such file")) == [.report("no such file")])
        #expect(scene.machine.state == .failed)
        #expect(scene.feed(.force) == [.load(from: Epoch(2))])
        #expect(scene.feed(.loadFailed("there is no QEMU")).deeds == [.boot(from: Epoch(2))])
    }

    @Test func withoutAnArbiterTheWordThatLetsAGuestBeResumedLetsItBoot() {
        var scene = StandbyScene.holding(.manual(.runAlone), boots: true)
        scene.feed(.takeOver(offer.session, Term(6), guestStands: false))
        scene.feed(.persisted(Term(6)))
        scene.feed(.applied(offer.session, Epoch(2)))
        #expect(scene.feed(.loadFailed("wrong machine")).deeds == [.boot(from: Epoch(2))])

        scene = StandbyScene.holding(.manual(.runAlone), boots: true)
        scene.feed(.linkLost(offer.session))
        #expect(!scene.machine.mayBoot)
        #expect(scene.feed(.imageLost("its QEMU ended")).deeds == [.closeLink, .dismantle])
    }
}
