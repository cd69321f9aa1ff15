import Foundation
import QEMU
import TestBed
import Testing

/// What is refused at level `restart`, and what `unprotect` leaves.
extension RestartLevelTests {
    /// Runs `protect --wait`, which must fail with a sentence that holds `words`, and leave the guest alone.
    private func refusal(_ scene: Scene, _ level: String, _ words: [String]) throws {
        let outcome = try scene.pair.romulus(
            scene.bed.a,
            [
                "protect", Scene.vm, "--qmp", scene.guest.monitorPath, "--standby", "hostb", "--level", level, "--wait",
                "--timeout", "30",
            ])
        #expect(outcome.status == 1 || outcome.status == 5, "\(outcome)")
        for word in words { #expect(outcome.errors.contains(word), "“\(word)” is missing in: \(outcome.errors)") }
        #expect(scene.guest.process.isRunning && scene.bed.b.qemus.isEmpty)
        #expect(try !scene.bed.a.run(["nft", "list", "tables"]).contains("romulus"))
    }

    @Test func withoutAnArbiterItIsRefused() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            try refusal(scene, "restart", ["restart", "arbiter"])
            try refusal(scene, "component", ["component"])
            try await scene.pair.protect(scene.guest)
        }
    }

    @Test func aCardThatIsOnNoTapIsRefused() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { wishes in
                wishes.pair.reprotectsByItself = false
                wishes.wiring = { image in
                    [
                        "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0", "-drive",
                        "file=\(image),format=raw,if=none,id=disk0", "-device", "virtio-blk-pci,drive=disk0",
                    ]
                }
            }
            try refusal(scene, "restart", ["net0", "tap"])
        }
    }

    @Test func unprotectLeavesNothing() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed) { $0.hasTestMonitor = true }
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await protect(scene)
            let before = try boot(of: scene)
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            #expect(try monitor.execute("query-block-jobs").array?.count == 1)
            let table = try bed.a.run(["nft", "list", "table", "netdev", "romulus"])
            #expect(table.contains("chain ingress_tap0") && table.contains("\"tap0\" timeout"), "\(table)")

            let outcome = try scene.pair.romulus(bed.a, ["unprotect", Scene.vm])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await eventually("the gate is gone", within: .seconds(10)) {
                try bed.a.run(["nft", "list", "tables"]).contains("romulus") ? nil : true
            }
            #expect(try monitor.execute("query-block-jobs").array?.isEmpty == true)
            let nodes = try monitor.execute("query-named-block-nodes").array ?? []
            #expect(!nodes.isEmpty && !nodes.contains { $0["node-name"]?.string?.hasPrefix("romulus-") == true })
            try await eventually("the images are given up", within: .seconds(20)) {
                try scene.pair.list(bed.b).isEmpty ? true : nil
            }
            try await verifier.waitForAnswers()
            #expect(try boot(of: scene) == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
