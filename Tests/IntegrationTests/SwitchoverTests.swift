import Foundation
import TestBed
import Testing

/// A guest is moved on purpose, and nothing is lost by it.
@Suite(.serialized, .timeLimit(.minutes(4))) struct SwitchoverTests {
    private func scene(
        _ bed: Bed, _ arbiter: Pair.Arbiter, on qemu: QEMUProgram = .installed, queues: Int = 1, planted: String? = nil
    ) async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.queues = queues
        wishes.qemu = qemu
        wishes.pair.arbiter = arbiter
        wishes.pair.reprotectsByItself = true
        if let planted {
            wishes.pair.program = "romulusd-planted"
            wishes.pair.environment = ["ROMULUS_PLANTED_FAULT": planted]
        }
        return try await Scene.make(on: bed, wishes)
    }

    private func run(_ pair: Pair, _ host: BedHost, _ arguments: [String]) throws {
        let outcome = try pair.romulus(host, arguments)
        guard outcome.status == 0 else {
            throw BedError("romulus \(arguments) ended with \(outcome.status): \(outcome.errors)")
        }
    }

    /// There and back again, the second time asked for at the standby.
    @Test(arguments: [
        (Pair.Arbiter.witness, QEMUProgram.installed, 1), (.operator, .installed, 2), (.witness, .newer, 1),
    ])
    func aGuestIsMovedThereAndBack(arbiter: Pair.Arbiter, on qemu: QEMUProgram, queues: Int) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter, on: qemu, queues: queues)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try run(scene.pair, bed.a, ["switchover", Scene.vm, "--wait"])
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(60))
            #expect(!scene.guest.process.isRunning, "the guest that was handed over must be ended")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "standby")
            try await Task.sleep(for: .seconds(1))
            try run(scene.pair, bed.a, ["switchover", Scene.vm, "--wait"])
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "primary")
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.longestSilenceMs < 2000, "\(report.longestSilenceMs) ms")
        }
    }

    /// The standby's QEMU refuses the state: the guest comes back and runs on where it was.
    @Test(arguments: [Pair.Arbiter.witness, .operator])
    func aGuestThatDoesNotGoOnThereIsGivenBack(arbiter: Pair.Arbiter) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter, planted: "spoil-last-state")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            let outcome = try scene.pair.romulus(bed.a, ["switchover", Scene.vm, "--wait"])
            #expect(outcome.status == 1, "\(outcome)")
            #expect(outcome.errors.contains("goes on where it was"), "\(outcome.errors)")
            #expect(scene.guest.process.isRunning)
            try await verifier.waitForAnswers()
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Nobody could say who goes on: the guest is not stopped, at neither host's word, nor by maintenance.
    @Test func withoutTheWitnessAGuestIsNotStopped() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await scene.pair.agent(bed.witness)?.killAndWait()
            for host in [bed.a, bed.b] {
                let outcome = try scene.pair.romulus(host, ["switchover", Scene.vm, "--wait"])
                #expect(outcome.status == 5 && outcome.errors.contains("the arbiter would have to agree"), "\(outcome)")
            }
            try run(scene.pair, bed.a, ["maintenance", "on"])
            try await eventually("maintenance says what it waits for", within: .seconds(20)) {
                let text = try scene.pair.romulus(bed.a, ["maintenance"]).output
                return text.contains("cannot be moved yet") && text.contains("gave no answer") ? true : nil
            }
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            try await scene.pair.restartArbiter()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(30))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.longestSilenceMs < 1500, "\(report.longestSilenceMs) ms")
        }
    }

    /// Only the standby's host cannot reach the witness: the guest comes back at once, and stays protected.
    @Test func aStandbyThatCannotReachTheWitnessDeclines() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try bed.b.setLink("lan0", up: false)
            let outcome = try scene.pair.romulus(bed.a, ["switchover", Scene.vm, "--wait"])
            #expect(outcome.status == 1 && outcome.errors.contains("hostb did not go on"), "\(outcome)")
            let declined = try #require(try scene.pair.status(bed.a, Scene.vm))
            #expect(declined.state == "protected" && scene.guest.process.isRunning)
            try await eventually("epochs go on in the same session", within: .seconds(10)) {
                let epoch = try scene.pair.status(bed.a, Scene.vm)?.epoch ?? 0
                return epoch > declined.epoch + 3 ? true : nil
            }
            try bed.b.setLink("lan0", up: true)
            try run(scene.pair, bed.a, ["switchover", Scene.vm, "--wait"])
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(report.longestSilenceMs < 2000, "\(report.longestSilenceMs) ms")
        }
    }

    @Test func whatIsNotProtectedIsNotMoved() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, .witness)
            try await scene.pair.protect(scene.guest)
            try bed.b.cutPower()
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            let outcome = try scene.pair.romulus(bed.a, ["switchover", Scene.vm])
            #expect(outcome.status == 5 && outcome.errors.contains("not protected"), "\(outcome)")
        }
    }

    /// A host is emptied, restarted, and takes its guest back.
    @Test func aHostInMaintenanceIsEmptyAndTakesBackWhatItHad() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try run(scene.pair, bed.a, ["maintenance", "on", "--wait", "--timeout", "60"])
            #expect(!scene.guest.process.isRunning)
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.start(bed.a)
            #expect(try scene.pair.romulus(bed.a, ["maintenance"]).output.contains("is empty"))
            try run(scene.pair, bed.a, ["maintenance", "off", "--wait", "--timeout", "90"])
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            // The other one now: it is the standby, and leaves without anybody noticing.
            try run(scene.pair, bed.b, ["maintenance", "on", "--wait", "--timeout", "60"])
            let status = try await scene.pair.wait(bed.a, Scene.vm, for: "running", within: .seconds(10))
            #expect(status.role == "primary")
            try run(scene.pair, bed.b, ["maintenance", "off"])
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
