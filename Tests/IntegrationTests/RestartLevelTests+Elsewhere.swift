import Foundation
import TestBed
import Testing

/// A guest that cannot be started again where it ran is started by the other host, once.
extension RestartLevelTests {
    /// The other host boots it, with all that it was told to have written, and only then.
    private func expectHandedOver(_ scene: Scene, _ reason: String) async throws {
        try await scene.pair.wait(scene.bed.b, Scene.vm, for: "running", within: .seconds(60))
        let told = try events(scene, at: scene.bed.a, "handed_over")
        #expect(told.contains("hostb is to start it") && told.contains(reason), "\(told)")
        #expect(try events(scene, at: scene.bed.b, "restarted").contains("which cannot start it again"))
        #expect(scene.bed.a.qemus.isEmpty, "nothing of it is left here")
        let granted = try scene.pair.bootTime(ofFirst: "granted", at: scene.bed.b, Scene.vm)
        let restarted = try scene.pair.bootTime(ofFirst: "restarted", at: scene.bed.b, Scene.vm)
        #expect(restarted - granted > 3_500_000_000, "the lease was waited for")
    }

    /// QEMU would make a tap anew, in no network.
    @Test func aGuestThatCannotBeStartedWhereItRanIsBootedByTheOtherHost() async throws {
        try await Bed.with { bed in
            let (scene, verifier, before) = try await writing(on: bed)
            try bed.a.run(["ip", "link", "del", "tap0"])
            try await scene.guest.killAndWait()
            try await expectHandedOver(scene, "its tap tap0 is not there any more")
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            #expect(try events(scene, at: bed.a, "restarted").isEmpty)

            try bed.a.addTap("tap0")
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(90))
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "standby")
            try scene.expectEqualDisks()
        }
    }

    /// Twice here, once there; and what dies there as well stays down, which both hosts say.
    @Test func aGuestThatKeepsDyingIsBootedByTheOtherHostAndStaysDownInTheEnd() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { $0.pair.defaults = ["restarts: 2"] }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await protect(scene)
            var pid = scene.guest.pid
            for _ in 1...2 {
                kill(pid, SIGKILL)
                pid = try await protected(scene, at: bed.a, otherThan: pid)
            }
            let before = try await eventually("the guest is up", within: .seconds(120)) { control(scene).boot() }
            kill(pid, SIGKILL)
            try await expectHandedOver(scene, "it was started 2 times within 10 minutes")
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            pid = try await protected(scene, at: bed.b, otherThan: pid)
            try scene.expectEqualDisks()

            kill(pid, SIGKILL)
            for host in bed.hosts {
                try await eventually("host \(host.name) tells that the guest stays down", within: .seconds(60)) {
                    try events(scene, at: host, "error").contains("web stays down: it was started 2 times") ? true : nil
                }
            }
            try await Task.sleep(for: .seconds(5))
            #expect(bed.a.qemus.isEmpty && bed.b.qemus.isEmpty)
            let restarts = try bed.hosts.map { host in
                try events(scene, at: host, "restarted").split(separator: "\n").count { $0.contains("from its disk") }
            }
            #expect(restarts == [2, 1])
            #expect(try scene.pair.status(bed.b, Scene.vm)?.lastError?.contains("stays down") == true)
        }
    }

    /// The arbiter does not answer here, so QEMU stands still when the agent is lost: the guest is the other host's, and the agent
    /// that comes back ends what it finds.
    @Test func aQEMUThatStandsStillIsEndedByTheAgentThatComesBackTooLate() async throws {
        try await Bed.with { bed in
            let (scene, verifier, before) = try await writing(on: bed)
            let witness = [bed.witness.lanAddress].compactMap { $0 }
            try bed.a.cutOff(from: witness, true)
            let asked = try events(scene, at: bed.a, "asked")
            try await scene.guest.killAndWait()
            try await eventually("SOLO is asked for", within: .seconds(20)) {
                try events(scene, at: bed.a, "asked") == asked ? nil : true
            }
            #expect(try events(scene, at: bed.a, "restarted").isEmpty)
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try await awaitBoot(scene, after: before)
            #expect(!bed.a.qemus.isEmpty, "this shows nothing")
            try await Scene.expectClean(verifier)

            try bed.a.cutOff(from: witness, false)
            try await scene.pair.start(bed.a)
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(90))
            #expect(bed.a.qemus.isEmpty && bed.b.qemus.count == 1)
            try scene.expectEqualDisks()
        }
    }

    /// At level `component` processes have its images open, which are in nobody's way.
    @Test func aGuestWhoseDisksAreServedIsBootedWhereItRan() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try boot(of: scene)
            try await Task.sleep(for: .seconds(2))
            try await scene.guest.killAndWait()
            _ = try await protected(scene, at: bed.a, otherThan: scene.guest.pid)
            try await awaitBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            #expect(try scene.pair.status(bed.a, Scene.vm)?.level == "component")
            #expect(try events(scene, at: bed.a, "handed_over").isEmpty)
            #expect(try events(scene, at: bed.b, "restarted").isEmpty && bed.b.qemus.isEmpty)
        }
    }
}
