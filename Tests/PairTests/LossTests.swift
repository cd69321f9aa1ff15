import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// The standby is lost: wherever that happens, the guest runs on, and its output leaves once nobody else can go on with it.
@Suite struct LossTests {
    /// The guest runs alone at this host, nothing of Romulus is attached to it, and all of its output left.
    private func expectAlone(_ scene: PrimaryScene, _ frames: [String]) async throws {
        try await scene.waitUntilAlone()
        try await scene.waitUntilLeft(frames)
        #expect(scene.guest.isRunningNow)
        #expect(scene.current?.mode == .solo && scene.current?.owner == FakeNodes.primary)
        #expect(scene.failures.isEmpty, "a lost standby is no failure of ours")
        scene.guest.send("alone")
        try await scene.waitUntilLeft(frames + ["alone"])
    }

    @Test(arguments: [FakeGuest.Call.prepare, .mirror, .tap, .scan, .drain, .stopAndSave, .finishSave])
    func beforeTheFirstCheckpoint(at call: FakeGuest.Call) async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.disks = 1
            $0.prepare = { scene in scene.guest.once(at: call) { scene.standby.hangUp() } }
        } _: { scene in
            try await scene.wait(for: "the loss") { scene.guest.count(of: call) > 0 && scene.standby.connections == 1 }
            try await expectAlone(scene, [])
            #expect(scene.register.history.map(\.mode) == [.solo])
        }
    }

    @Test func beforeTheFirstAcknowledgement() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.prepare = { $0.standby.acknowledge(.onDemand) }
        } _: { scene in
            try await scene.wait(for: "checkpoint 1") { scene.standby.whole == [Epoch(1)] }
            scene.guest.send("held")
            #expect(scene.guest.left().isEmpty)
            scene.standby.hangUp()
            try await expectAlone(scene, ["held"])
            #expect(scene.register.history.map(\.mode) == [.solo], "it says so already")
        }
    }

    /// PAIRED was asked for, and may be granted yet.
    @Test func whileThePairIsAskedFor() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.prepare = { $0.standby.acknowledge(.onDemand) }
        } _: { scene in
            try await scene.wait(for: "checkpoint 1") { scene.standby.whole == [Epoch(1)] }
            scene.register.be(.losesAnswers)
            scene.standby.acknowledgeNext()
            try await scene.wait(for: "the pair at the arbiter") { scene.current?.mode == .paired }
            scene.guest.send("held")
            scene.standby.hangUp()
            try await scene.wait(for: .peerLost)
            try await Task.sleep(for: .milliseconds(20))
            #expect(scene.guest.left().isEmpty)
            scene.register.be(.answers)
            try await expectAlone(scene, ["held"])
            #expect(scene.register.history.map(\.mode) == [.solo, .paired, .solo])
        }
    }

    @Test(arguments: [
        FakeGuest.Call.canSaveInOne, .stopAndSaveInOne, .scan, .copy, .awaitSaved, .release, .resume, .takeDeviceState,
        .confirmCheckpoint, .confirmMemory,
    ]) func withinACheckpointOfOneCommand(at call: FakeGuest.Call) async throws {
        try await lostWithinACheckpoint(at: call, inOne: true)
    }

    @Test(arguments: [
        FakeGuest.Call.stopAndSave, .scan, .copy, .finishSave, .wasResumedByOthers, .release, .resume, .takeDeviceState,
    ]) func withinACheckpointOfSeveral(at call: FakeGuest.Call) async throws {
        try await lostWithinACheckpoint(at: call, inOne: false)
    }

    private func lostWithinACheckpoint(at call: FakeGuest.Call, inOne: Bool) async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            scene.guest.saveInOne(inOne)
            try await scene.waitUntilProtected()
            scene.guest.once(at: call) { scene.standby.hangUp() }
            scene.guest.write(1, 1)
            scene.guest.send("held")
            try await expectAlone(scene, ["held"])
        }
    }

    @Test func silenceIsALoss() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.options.silenceMilliseconds = 200
            $0.options.silenceFloorMilliseconds = 100
            $0.options.heartbeatMilliseconds = 20
        } _: { scene in
            try await scene.wait(for: "the offer") { scene.standby.offers.count == 1 }
            try await expectAlone(scene, [])
        }
    }

    // MARK: - And then

    @Test func theNextSessionBeginsAnew() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.write(1, 1)
            try await scene.send("one")
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            scene.guest.write(2, 2)
            scene.shell.protect()
            try await scene.waitUntilProtected()
            scene.guest.write(3, 3)
            let epoch = try await scene.send("two")
            #expect(scene.standby.images[epoch] == scene.guest.cuts.last)
            #expect(Set(scene.standby.offers.map(\.session.session)).count == 2)
            #expect(scene.register.history.map(\.mode) == [.solo, .paired, .solo, .paired])
            try await scene.waitUntilLeft(["one", "two"])
        }
    }

    /// I1: what the old session's standby says counts for nothing in the new one.
    @Test func anOldSessionsAcknowledgementIsNone() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            for round in 0..<4 { try await scene.send("old \(round)") }
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            scene.shell.protect()
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            scene.register.be(.isUnreachable)
            try await scene.send("new")
            scene.standby.acknowledge(Epoch(4))
            try await scene.wait(for: .peerLost)
            #expect(!scene.guest.left().contains("new"))
        }
    }

    @Test(arguments: [PrimaryMachine.Reprotection.automatic, .manual])
    func aStandbyThatCannotBeReachedIsAFailureToWhomeverNamedIt(_ way: PrimaryMachine.Reprotection) async throws {
        try await PrimaryScene.with {
            $0.reprotection = way
            $0.prepare = { $0.standby.be(reachable: false) }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.peerLost])
            #expect(scene.guest.isRunningNow && scene.guest.count(of: .prepare) == 0)
        }
    }

    @Test func aStandbyThatShouldBeThereIsAskedAgain() async throws {
        try await PrimaryScene.with {
            $0.origin = .wanted
            $0.prepare = { $0.standby.be(reachable: false) }
        } _: { scene in
            try await scene.wait(for: .peerLost)
            #expect(scene.ended == nil && scene.shell.status.lastError == "beta cannot be reached")
            scene.standby.be(reachable: true)
            scene.shell.protect()
            try await scene.waitUntilProtected()
        }
    }

    @Test func anotherOneTakesItsPlace() async throws {
        try await PrimaryScene.with {
            $0.origin = .wanted
            $0.nodes = [FakeNodes.standby, FakeNodes.reserve]
            $0.options.reserve = [FakeNodes.reserve]
            $0.options.replaceAfterSeconds = 0
            $0.prepare = { $0.standby.be(reachable: false) }
        } _: { scene in
            try await scene.wait(for: .peerLost)
            scene.shell.protect()
            try await scene.waitUntilProtected()
            #expect(scene.shell.standby == FakeNodes.reserve)
            #expect(scene.current?.standby?.node == FakeNodes.reserve)
            #expect(scene.standby(FakeNodes.reserve).offers.first?.reserve == [FakeNodes.standby])
        }
    }

    /// A register that another host won is heard of before the arbiter was asked.
    @Test func anotherHostThatWonIsHeardOf() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            var theirs = try #require(scene.current)
            theirs.term = Term(theirs.term.number + 1)
            (theirs.owner, theirs.mode, theirs.session, theirs.standby) = (FakeNodes.standby, .solo, .none, nil)
            scene.register.set(scene.vm, theirs)
            scene.standby.send(RegisterMessage(theirs).frame)
            try await scene.waitUntilEnded()
            #expect(!scene.guest.isAlive && scene.guest.left().isEmpty)
            #expect(scene.gaveWay?.register == theirs)
        }
    }

    /// Without an arbiter, two hosts that both ran it alone wait for the operator.
    @Test func twoHistoriesAreNotMerged() async throws {
        try await PrimaryScene.with {
            $0.rule = .manual(.runAlone)
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            let offer = SessionOffer(
                session: SessionID(3), term: Term(2000), lineage: Lineage(4), level: .system, primary: FakeNodes.standby
            )
            scene.shell.hear(of: offer)
            try await scene.wait(for: .forked)
            try await scene.wait(for: "it stands still") { !scene.guest.isRunningNow }
            #expect(scene.shell.decide(goesOn: true) == nil)
            try await scene.wait(for: "it runs on") { scene.guest.isRunningNow && scene.shell.isAlone }
        }
    }
}
