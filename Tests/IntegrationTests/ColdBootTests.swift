import Foundation
import TestBed
import Testing

/// A failover at which no QEMU takes the guest's state: it is booted from its disk, and nothing that was written is lost.
@Suite(.serialized, .timeLimit(.minutes(4))) struct ColdBootTests {
    private func scene(
        _ bed: Bed, queues: Int = 1, spoilt: Bool = true, _ change: (inout Scene.Wishes) -> Void = { _ in }
    ) async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.vcpus = 1
        wishes.queues = queues
        wishes.pair.arbiter = .witness
        wishes.pair.reprotectsByItself = true
        if spoilt {
            wishes.pair.program = "romulusd-planted"
            wishes.pair.environment = ["ROMULUS_PLANTED_FAULT": "spoil-states"]
        }
        change(&wishes)
        return try await Scene.make(on: bed, wishes)
    }

    /// What is only in memory does not outlive a boot.
    private func load() -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.redisIntervalMs = 0
        plan.ledgerIntervalMs = 5
        return plan
    }

    /// The guest that was booted at host B is up; its disk has all that it had said was durable.
    private func judge(_ scene: Scene, _ verifier: Verifier) async throws {
        let (pair, host) = (scene.pair, scene.bed.b)
        let console = "\(host.runtimeDirectory)/romulus/\(Scene.vm)/serial1.log"
        try await eventually("the guest is up again", within: .seconds(90)) {
            let text = String(decoding: FileManager.default.contents(atPath: console) ?? Data(), as: UTF8.self)
            return text.contains("ROMULUS-GUEST READY") ? true : nil
        }
        let ledger = try #require(try await verifier.finish().ledger)
        #expect(ledger.isVerified && ledger.acknowledged > 20, "\(ledger)")
        #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")

        let events = try pair.romulus(host, ["events", "--kind", "cold_boot"]).output
        #expect(
            events.contains("the memory of \(Scene.vm) was lost: it was booted here from its disk as of epoch"),
            "\(events)")
        let why = try pair.romulus(host, ["why", Scene.vm]).output
        #expect(why.contains("Granted") && why.contains("Booted from its disk"), "\(why)")
        let status = try pair.romulus(host, ["status", Scene.vm]).output
        #expect(status.contains("from its disk as of epoch"), "\(status)")
    }

    /// With one queue its output is held in QEMU, with two at its tap.
    @Test(arguments: [1, 2]) func aGuestWhoseCheckpointDoesNotLoadIsBootedFromItsDisk(queues: Int) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, queues: queues)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(2))
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try await judge(scene, verifier)
            // It is a guest like any other: the old host becomes its standby, and goes on with it where that is needed.
            try await scene.pair.start(bed.a)
            let there = try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(60))
            let qemu = try #require(there.pid)
            let again = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            kill(qemu, SIGKILL)
            try await scene.pair.wait(bed.a, Scene.vm, for: "running", within: .seconds(60))
            try await again.waitForAnswers()
            let report = try await again.finish()
            #expect(report.isClean, "\(report)")
            #expect(try scene.pair.romulus(bed.a, ["events", "--kind", "cold_boot"]).output.isEmpty)
        }
    }

    /// QEMU has loaded the state, and waits for the arbiter's word when it dies.
    @Test func aGuestWhoseQEMUDiesBeforeItMayRunIsBootedToo() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, spoilt: false)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            let waiting = try #require(try scene.pair.status(bed.b, Scene.vm)?.pid)
            try await scene.pair.agent(bed.witness)?.killAndWait()
            bed.a.killAll()
            try await scene.pair.wait(bed.b, Scene.vm, for: "peer_lost", within: .seconds(30))
            try await Task.sleep(for: .seconds(1))
            kill(waiting, SIGKILL)
            try await scene.pair.restartArbiter()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try await judge(scene, verifier)
        }
    }

    @Test func whereThatIsSwitchedOffTheGuestStaysDown() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed) { $0.pair.defaults = ["cold_boot: false"] }
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try await scene.guest.killAndWait()
            let status = try await scene.pair.wait(bed.b, Scene.vm, for: "failed", within: .seconds(30))
            #expect(status.lastError?.contains("its QEMU did not load checkpoint") == true, "\(status)")
            #expect(try scene.pair.romulus(bed.b, ["events", "--kind", "cold_boot"]).output.isEmpty)
            // Nobody holds its disk.
            try Child.run(["qemu-img", "info", "-f", "raw", scene.standbyDisk])
        }
    }

    /// QEMU cannot be started at all: one sentence, and the VM is down.
    @Test func aBootThatFailsSaysWhy() async throws {
        try await Bed.with { bed in
            let file = "\(bed.b.stateDirectory)/read-at-the-start"
            try Data("here".utf8).write(to: URL(fileURLWithPath: file))
            let scene = try await scene(bed) { $0.standbyLines = ["    add: [\"-fw_cfg name=opt/bed,file=\(file)\"]"] }
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            unlink(file)
            try await scene.guest.killAndWait()
            let status = try await scene.pair.wait(bed.b, Scene.vm, for: "failed", within: .seconds(30))
            let error = status.lastError ?? ""
            #expect(error.contains("cannot be booted from its disk as of epoch") && error.contains(file), "\(error)")
            // The operator mends it and tries again.
            try Data("here".utf8).write(to: URL(fileURLWithPath: file))
            let outcome = try scene.pair.romulus(bed.b, ["failover", Scene.vm, "--yes"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(30))
        }
    }
}
