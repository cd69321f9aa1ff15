import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// What happens to the guest by itself while it is protected.
@Suite struct GuestTests {
    @Test func aGuestThatDiesGoesOnAtTheStandby() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            scene.guest.die()
            try await scene.wait(for: "the standby is told") { scene.standby.takeOvers.count == 1 }
            let request = try #require(scene.standby.takeOvers.first)
            #expect(!request.guestStands && request.term > Term(2))
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.guestLost])
            #expect(scene.gaveWay != nil && scene.guest.left().isEmpty && scene.dropped == 1)
        }
    }

    @Test(arguments: [
        FakeGuest.Call.canSaveInOne, .stopAndSaveInOne, .scan, .copy, .awaitSaved, .release, .resume, .takeDeviceState,
        .confirmCheckpoint, .confirmMemory,
    ]) func aDeathWithinACheckpointIsNoFailureOfIt(at call: FakeGuest.Call) async throws {
        try await PrimaryScene.with { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            scene.guest.once(at: call) { scene.guest.die() }
            scene.guest.write(1, 1)
            scene.guest.send("held")
            try await scene.wait(for: "the standby is told") { scene.standby.takeOvers.map(\.guestStands) == [false] }
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.guestLost], "its standby is not sent away")
            #expect(scene.standby.goodbyes.isEmpty)
        }
    }

    @Test(arguments: [FakeGuest.Call.prepare, .followMemory, .scan, .drain, .stopAndSave, .tap])
    func aDeathBeforeTheFirstCheckpointIsTheEnd(at call: FakeGuest.Call) async throws {
        try await PrimaryScene.with {
            $0.prepare = { scene in scene.guest.once(at: call) { scene.guest.die() } }
        } _: { scene in
            try await scene.wait(for: "it dies") { !scene.guest.isAlive }
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.guestLost])
            #expect(scene.standby.takeOvers.isEmpty && scene.gaveWay == nil)
        }
    }

    @Test func aDeathWithoutAStandbyIsTheEnd() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            scene.guest.die()
            try await scene.waitUntilEnded()
            #expect(scene.ended?.contains("died, and it had no standby") == true)
        }
    }

    @Test func aShutdownEndsProtectionInOrder() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            try await scene.send("bye")
            scene.guest.tell(.shutdown("guest-shutdown"))
            try await scene.waitUntilEnded()
            #expect(scene.ended == "the guest was shut down (guest-shutdown)")
            #expect(scene.current?.mode == .solo && scene.standby.takeOvers.isEmpty)
            try await scene.wait(for: "the goodbye") { scene.standby.goodbyes.count == 1 }
            #expect(scene.failures.isEmpty && scene.phase == .ended)
        }
    }

    @Test func aResetIsNoReason() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.guest.tell(.reset)
            try await scene.wait(for: "the event") {
                scene.events(.qemu) == ["the guest was reset; protection goes on"]
            }
            try await scene.send("and on")
            try await scene.waitUntilLeft(["and on"])
        }
    }

    @Test(arguments: [true, false]) func aGuestThatOthersPausedIsNotCheckpointed(inOne: Bool) async throws {
        try await PrimaryScene.with {
            $0.endEpochs(after: 20)
        } _: { scene in
            scene.guest.saveInOne(inOne)
            try await scene.waitUntilProtected()
            scene.guest.pauseByOthers()
            try await scene.wait(for: "it is noticed") {
                scene.events(.qemu) == ["someone else paused the guest: no checkpoints until it runs again"]
            }
            let whole = scene.guest.count(of: .takeDeviceState)
            try await Task.sleep(for: .milliseconds(60))
            #expect(scene.guest.count(of: .takeDeviceState) <= whole + 1)
            #expect(!scene.guest.isRunningNow, "it is not ours to let run on")
            scene.guest.resumeByOthers()
            try await scene.wait(for: "it goes on") { scene.events(.qemu).last == "the guest runs again" }
            try await scene.send("again")
            try await scene.waitUntilLeft(["again"])
        }
    }

    // MARK: - What protection cannot go on with

    /// Protection is given up in order, and the guest runs on without it.
    private func expectGivenUp(_ scene: PrimaryScene, _ code: SessionError.Code) async throws {
        try await scene.waitUntilEnded()
        #expect(scene.failures.map(\.code) == [code])
        #expect(
            scene.guest.isRunningNow && scene.guest.tapped == 0 && scene.guest.mirrored == 0 && !scene.guest.isPrepared)
        #expect(scene.phase == .failed && scene.current?.mode == .solo)
        try await scene.wait(for: "the goodbye") { scene.standby.goodbyes.map(\.kind) == [.failed] }
        #expect(scene.standby.takeOvers.isEmpty)
    }

    @Test func aDeviceThatIsUnplugged() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.guest.tell(.deviceRemoved)
            try await expectGivenUp(scene, .refused)
            #expect(scene.ended?.contains("was unplugged; protect it again") == true)
        }
    }

    @Test func aMirrorThatIsOver() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.tell(.mirrorFailed("the mirror of disk0 failed"))
            try await expectGivenUp(scene, .storage)
            #expect(scene.ended == "the mirror of disk0 failed")
        }
    }

    @Test func aMirrorThatFailsDuringTheFirstCopy() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.prepare = { $0.guest.failMirrors(SessionError(.storage, "no room")) }
        } _: { scene in
            try await expectGivenUp(scene, .storage)
        }
    }

    @Test(arguments: [
        FakeGuest.Call.prepare, .mirror, .tap, .scan, .drain, .canSaveInOne, .stopAndSave, .finishSave,
        .wasResumedByOthers, .release, .resume, .takeDeviceState, .confirmCheckpoint, .confirmMemory,
    ]) func aStepOfTheFirstCheckpointThatFails(_ call: FakeGuest.Call) async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.prepare = { $0.guest.fail(at: call, SessionError(.qemu, "planted")) }
        } _: { scene in
            try await expectGivenUp(scene, call == .scan ? .system : .qemu)
        }
    }

    @Test(arguments: [
        FakeGuest.Call.canSaveInOne, .stopAndSaveInOne, .scan, .copy, .awaitSaved, .release, .resume, .takeDeviceState,
        .confirmCheckpoint, .confirmMemory,
    ]) func aStepOfACheckpointThatFails(_ call: FakeGuest.Call) async throws {
        try await PrimaryScene.with { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            scene.guest.fail(at: call, SessionError(.qemu, "planted"))
            scene.guest.write(1, 1)
            scene.guest.send("held")
            try await expectGivenUp(scene, call == .scan || call == .copy ? .system : .qemu)
            try await scene.waitUntilLeft(["held"])
        }
    }

    /// Where the arbiter is away, what is held stays so until it is decided, and the guest runs meanwhile.
    @Test func givingUpNeedsTheArbiterToo() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.standby.acknowledge(.onDemand)
            scene.guest.fail(at: .finishSave, SessionError(.qemu, "planted"))
            scene.guest.send("held")
            try await scene.wait(for: "the failure") { scene.failures.map(\.message) == ["planted"] }
            try await scene.wait(for: "it runs on") { scene.guest.isRunningNow }
            #expect(scene.guest.left().isEmpty && scene.ended == nil)
            scene.register.be(.answers)
            try await expectGivenUp(scene, .qemu)
            try await scene.waitUntilLeft(["held"])
        }
    }

    // MARK: - A hypervisor that does nothing

    @Test(arguments: [FakeGuest.Call.stopAndSaveInOne, .awaitSaved, .resume]) func aStandstillIsTold(
        at call: FakeGuest.Call
    ) async throws {
        try await PrimaryScene.with {
            $0.options.stallMilliseconds = 30
            $0.options.heartbeatMilliseconds = 10
        } _: { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            scene.guest.stall(at: call)
            scene.guest.send("held")
            try await scene.wait(for: .stalled)
            #expect(scene.events(.stalled).first?.contains("did nothing for a checkpoint for 0.03 s") == true)
            #expect(scene.guest.left().isEmpty)
            scene.guest.goOn()
            try await scene.wait(for: "it is over") { scene.events(.stallOver).count >= 1 }
            try await scene.waitUntilLeft(["held"])
            try await scene.waitUntilProtected()
        }
    }

    @Test func aGuestThatDiesInAStandstillGoesOnAtTheStandby() async throws {
        try await PrimaryScene.with {
            $0.options.stallMilliseconds = 30
            $0.options.heartbeatMilliseconds = 10
        } _: { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            scene.guest.stall(at: .awaitSaved)
            scene.guest.send("held")
            try await scene.wait(for: .stalled)
            scene.guest.die()
            try await scene.wait(for: "the standby is told") { scene.standby.takeOvers.map(\.guestStands) == [false] }
            scene.standby.hangUp()
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.guestLost])
        }
    }

    /// A standby that is lost in a standstill is decided about without the guest's thread.
    @Test func aLossInAStandstillIsDecided() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
            $0.options.stallMilliseconds = 30
            $0.options.heartbeatMilliseconds = 10
        } _: { scene in
            scene.guest.saveInOne()
            try await scene.waitUntilProtected()
            scene.guest.stall(at: .stopAndSaveInOne)
            scene.guest.send("held")
            try await scene.wait(for: .stalled)
            scene.standby.hangUp()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.current?.mode == .solo)
            scene.guest.goOn()
            try await scene.waitUntilAlone()
        }
    }
}
