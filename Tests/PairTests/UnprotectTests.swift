import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// Protection is ended: the guest runs on as if nothing had been, wherever the session stands.
@Suite struct UnprotectTests {
    /// It is over, the guest runs, and nothing of Romulus is attached to it.
    private func expectFree(_ scene: PrimaryScene, left: [String]) async throws {
        try await scene.waitUntilEnded()
        #expect(scene.phase == .ended && scene.shell.status.lastError == nil)
        #expect(scene.guest.isRunningNow)
        #expect(scene.guest.tapped == 0 && scene.guest.mirrored == 0 && !scene.guest.isPrepared)
        #expect(scene.guest.calls.last == .close)
        #expect(scene.guest.left() == left)
        scene.guest.send("free")
        #expect(scene.guest.left() == left + ["free"])
        #expect(scene.current?.mode == .solo && scene.current?.owner == FakeNodes.primary)
        #expect(scene.failures.isEmpty)
    }

    @Test func whileTheStandbyThinks() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.saysNothing) }
        } _: { scene in
            try await scene.wait(for: "the offer") { scene.standby.offers.count == 1 }
            scene.shell.unprotect()
            try await expectFree(scene, left: [])
        }
    }

    @Test func duringTheFirstCopy() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.prepare = { $0.guest.setMirrors(progress: 0.5) }
        } _: { scene in
            try await scene.wait(for: "the first copy") { scene.shell.status.diskProgress == 0.5 }
            #expect(scene.guest.mirrored == 1)
            scene.shell.unprotect()
            try await expectFree(scene, left: [])
            #expect(scene.ended == "protection was ended by the operator")
        }
    }

    @Test func beforeTheFirstAcknowledgement() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.acknowledge(.onDemand) }
        } _: { scene in
            try await scene.wait(for: "checkpoint 1") { scene.standby.whole == [Epoch(1)] }
            scene.guest.send("held")
            scene.shell.unprotect()
            try await expectFree(scene, left: ["held"])
        }
    }

    @Test(arguments: [Rule.arbiter, .manual(.runAlone), .manual(.freeze)]) func ofAPair(_ rule: Rule) async throws {
        try await PrimaryScene.with {
            $0.rule = rule
            $0.disks = 1
        } _: { scene in
            try await scene.waitUntilProtected()
            try await scene.send("one")
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            try await scene.wait(for: "the goodbye") { scene.standby.goodbyes.map(\.kind) == [.unprotected] }
            if rule == .arbiter {
                try await expectFree(scene, left: ["one"])
            } else {
                #expect(scene.guest.isRunningNow && scene.guest.tapped == 0 && scene.guest.mirrored == 0)
                #expect(scene.records.last?.register?.mode == .solo)
            }
        }
    }

    @Test func whatIsHeldLeavesOnceItIsSolo() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            scene.register.be(.isUnreachable)
            scene.shell.unprotect()
            try await scene.wait(for: "the question") { scene.register.asked.last?.mode == .solo }
            #expect(scene.guest.left().isEmpty && scene.ended == nil)
            scene.register.be(.answers)
            try await expectFree(scene, left: ["held"])
        }
    }

    /// I12: until SOLO is won, the pair goes on.
    @Test func acknowledgementsGoOnReleasingMeanwhile() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.shell.unprotect()
            try await scene.send("one")
            try await scene.waitUntilLeft(["one"])
            #expect(scene.ended == nil)
            scene.register.be(.answers)
            try await expectFree(scene, left: ["one"])
        }
    }

    @Test func aStandbyThatSaysNothingDoesNotHinderIt() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.standby.letGo(false)
            scene.shell.unprotect()
            try await expectFree(scene, left: [])
        }
    }

    @Test func afterALoss() async throws {
        try await PrimaryScene.with {
            $0.reprotection = .manual
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            #expect(scene.guest.isRunningNow && scene.phase == .ended)
        }
    }

    @Test func whileItIsAskedWhoGoesOn() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.register.be(.isUnreachable)
            scene.standby.hangUp()
            try await scene.wait(for: .peerLost)
            scene.guest.send("held")
            scene.shell.unprotect()
            #expect(scene.guest.left().isEmpty)
            scene.register.be(.answers)
            try await scene.waitUntilEnded()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
        }
    }

    @Test func frozen() async throws {
        try await PrimaryScene.with {
            $0.rule = .manual(.freeze)
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.standby.hangUp()
            try await scene.wait(for: .frozen)
            scene.guest.send("held")
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            try await scene.waitUntilLeft(["held"])
            #expect(scene.guest.isRunningNow && scene.guest.tapped == 0)
        }
    }

    /// The guest stands still for the removal of what is attached.
    @Test func theStandstillIsTold() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.shell.unprotect()
            try await expectFree(scene, left: [])
            let causes = scene.reports.compactMap {
                if case .stoodStill(let standstill) = $0 { standstill.cause } else { nil }
            }
            #expect(causes == [.attach, .detach])
        }
    }

    @Test func theGuestIsEndedOnDemand() async throws {
        try await PrimaryScene.with { scene in
            try await scene.waitUntilProtected()
            scene.shell.endGuest()
            try await scene.wait(for: "the standby goes on") { scene.standby.takeOvers.map(\.guestStands) == [false] }
            #expect(!scene.guest.isAlive)
        }
    }
}
