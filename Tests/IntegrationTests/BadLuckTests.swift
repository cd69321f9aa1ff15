import Foundation
import Hypervisor
import QEMU
import TestBed
import Testing

/// Wrong requests and bad moments: one clear sentence, nothing half done.
@Suite(.serialized, .timeLimit(.minutes(4))) struct BadLuckTests {
    /// Runs `protect --wait`, which must fail with a sentence that holds `words`, and leave the guest alone.
    private func refusal(_ scene: Scene, _ words: [String], qmp: String? = nil) async throws {
        let outcome = try scene.pair.romulus(
            scene.bed.a,
            ["protect", Scene.vm, "--qmp", qmp ?? scene.guest.monitorPath, "--standby", "hostb", "--wait"])
        #expect(outcome.status != 0)
        for word in words { #expect(outcome.errors.contains(word), "“\(word)” is missing in: \(outcome.errors)") }
        #expect(scene.guest.process.isRunning)
        let answer = try GuestControl(client: scene.bed.client, address: scene.address).shell("echo alive")
        #expect(answer.contains("alive"))
    }

    @Test func requestsThatCannotBeServed() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            // A wrong path.
            try await refusal(scene, ["/nowhere.qmp", "no QMP socket"], qmp: "/nowhere.qmp")
            // An image of another size.
            _ = try GuestDisk.create(scene.standbyDisk, mebibytes: 32)
            try await refusal(scene, ["hostb", "33554432", "67108864"])
            // None at all.
            unlink(scene.standbyDisk)
            try await refusal(scene, ["hostb", scene.standbyDisk, "--create-image"])
            #expect(!FileManager.default.fileExists(atPath: scene.standbyDisk))
            _ = try GuestDisk.create(scene.standbyDisk, mebibytes: 64)
            // No room for the guest's memory.
            let memory = "\(bed.b.shmDirectory)/romulus"
            try Child.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", memory])
            do {
                try await refusal(scene, ["hostb", "MiB", "free"])
                try Child.run(["umount", memory])
            } catch {
                try Child.run(["umount", memory])
                throw error
            }
            // After all that, it still works.
            try await scene.pair.protect(scene.guest)
            // A second time, and a monitor that somebody else holds.
            let again = try scene.pair.romulus(
                bed.a, ["protect", Scene.vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb"])
            #expect(again.status == 5, "\(again.errors)")
            let other = try scene.pair.romulus(
                bed.a, ["protect", "other", "--qmp", scene.guest.monitorPath, "--standby", "hostb", "--wait"])
            #expect(other.status != 0)
            #expect(other.errors.contains("another"), "\(other.errors)")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
        }
    }

    @Test func aDeadPeerAndAStandbyThatDoesNotStart() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.standbyLines = ["    add: [\"-device no-such-device\"]"]
            let scene = try await Scene.make(on: bed, wishes)
            // QEMU's own words.
            try await refusal(scene, ["hostb", "no-such-device"])
            bed.b.killAll()
            try await refusal(scene, ["10.77.0.2:7310", "listens"])
        }
    }

    /// Both agents' ends at once: the standby's agent is killed at any moment, in the middle of an epoch or of an apply,
    /// and so is the primary's host. What the next agent finds must be whole.
    @Test(arguments: 1...3) func aKilledStandbyAgentLeavesNoTornReplica(round: Int) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 2000))
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .milliseconds(900 + round * 211))
            scene.pair.agent(bed.b)?.kill()
            bed.a.killAll()
            try await scene.pair.start(bed.b)
            try await scene.failOver()
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The primary's agent is killed and its QEMU is not: nothing leaves any more, so the standby may take over.
    @Test func aKilledPrimaryAgentLetsNothingOut() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            scene.pair.agent(bed.a)?.kill()
            try await scene.failOver()
            #expect(scene.guest.process.isRunning)
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    @Test func memoryThatIsPluggedInEndsProtectionWithASentence() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            wishes.moreArguments = ["-m", "256,slots=2,maxmem=1G"]
            let scene = try await Scene.make(on: bed, wishes)
            try await scene.pair.protect(scene.guest)
            let monitor = try scene.testMonitor()
            try monitor.execute(
                "object-add", ["qom-type": "memory-backend-ram", "id": "more", "size": .integer(64 << 20)])
            try monitor.execute("device_add", ["driver": "pc-dimm", "id": "dimm0", "memdev": "more"])
            let status = try await scene.pair.wait(bed.a, Scene.vm, for: "failed", within: .seconds(20))
            #expect(status.lastError?.contains("plugged in") ?? false, "\(status.lastError ?? "")")
            let answer = try GuestControl(client: bed.client, address: scene.address).shell("echo alive")
            #expect(answer.contains("alive"))
        }
    }

    @Test func aSlowLinkLengthensEpochsAndLosesNothing() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 1000))
            try await scene.pair.protect(scene.guest)
            try bed.a.limitRate("repl0", megabits: 8)
            try await Task.sleep(for: .seconds(5))
            let slow = try scene.pair.status(bed.a, Scene.vm)
            #expect(slow?.state == "protected", "\(slow?.lastError ?? "")")
            try bed.a.limitRate("repl0", megabits: nil)
            try await Task.sleep(for: .seconds(1))
            bed.a.killAll()
            try await scene.failOver()
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Two VMs, one in each direction.
    @Test func twoVMsInBothDirections() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let image = try GuestImage.build()
            var configuration = GuestVM.Configuration()
            configuration.name = "second"
            configuration.address = "10.78.1.11"
            configuration.memoryMiB = 128
            configuration.vcpus = 1
            configuration.nics = [GuestVM.NIC(.virtio, tap: "tap1", mac: "52:54:00:00:01:0b")]
            try bed.a.addTap("tap1")
            let second = try await GuestVM.boot(on: bed.b, image: image, configuration)
            try await scene.pair.protect(scene.guest)
            try await scene.pair.protect(second)
            let first = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            var plan = Scene.load(pages: 100)
            plan.ledgerIntervalMs = 0
            let other = try await Verifier.start(on: bed.client, guest: configuration.address, plan)
            try await Task.sleep(for: .seconds(1))
            try await second.killAndWait()
            try await scene.pair.wait(bed.a, "second", for: "running", within: .seconds(60))
            try await other.waitForAnswers()
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            for verifier in [first, other] {
                let report = try await verifier.finish()
                #expect(report.isClean, "\(report)")
            }
        }
    }
}
