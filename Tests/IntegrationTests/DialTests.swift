import Foundation
import LinuxSystem
import TestBed
import Testing

/// The dial, turned between `restart` and `system` while the guest works: nobody notices, and what holds is what the level says.
@Suite(.serialized, .timeLimit(.minutes(4))) struct DialTests {
    private func turn(_ scene: Scene, to level: String) throws {
        let outcome = try scene.pair.romulus(
            scene.bed.a, ["dial", Scene.vm, level, "--wait", "--timeout", "60"])
        guard outcome.status == 0 else {
            throw BedError("romulus dial ended with \(outcome.status): \(outcome.errors)")
        }
        let status = try #require(try scene.pair.status(scene.bed.a, Scene.vm))
        #expect(status.level == level && status.state == "protected", "\(status)")
    }

    private func hasGate(_ host: BedHost) throws -> Bool {
        try host.run(["nft", "list", "tables"]).contains("netdev romulus")
    }

    /// Of QEMU's threads.
    private func hasRealTime(_ host: BedHost) throws -> Bool {
        let qemu = try #require(host.qemus.first)
        return try ProcessFiles.threads(of: qemu).contains { sched_getscheduler($0) & 0xff == SCHED_RR }
    }

    @Test func aGuestIsTurnedUpAndDownUnderLoad() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            #expect(try !hasRealTime(bed.a))
            for _ in 1...2 {
                try turn(scene, to: "system")
                #expect(try bed.b.qemus.count == 1 && hasRealTime(bed.a))
                try await eventually("the gate is gone", within: .seconds(10)) { try hasGate(bed.a) ? nil : true }
                try scene.pair.verify(scene.guest)
                try await verifier.waitForAnswers()
                try turn(scene, to: "restart")
                try await eventually("no QEMU waits", within: .seconds(10)) { bed.b.qemus.isEmpty ? true : nil }
                #expect(try hasGate(bed.a) && !hasRealTime(bed.a))
                try await verifier.waitForAnswers()
            }
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            let disks = try [scene.primaryDisk, scene.standbyDisk].map { path in
                try Child.run(["sha256sum", path]).prefix { $0 != " " }
            }
            #expect(disks[0] == disks[1], "the two hosts' disks differ")
        }
    }

    /// Turned up, the loss of the host goes unnoticed.
    @Test func aGuestThatWasTurnedUpGoesOnAtTheStandby() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            try turn(scene, to: "system")
            try await Task.sleep(for: .seconds(1))
            try bed.a.cutPower()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(30))
            try await verifier.waitForAnswers()
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Turned down, a guest whose QEMU dies is booted where it ran, with all that it wrote before and after the turn.
    @Test func aGuestThatWasTurnedDownIsBootedWhereItRan() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            var plan = Verifier.Plan()
            plan.redisIntervalMs = 0
            plan.ledgerIntervalMs = 5
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, plan)
            try await scene.pair.protect(scene.guest, ["--level", "system"])
            let before = try #require(verifier.control.boot())
            try turn(scene, to: "restart")
            try await Task.sleep(for: .seconds(1))
            try await scene.guest.killAndWait()
            try await eventually("the guest is up again", within: .seconds(120)) {
                verifier.control.boot().flatMap { $0 == before ? nil : $0 }
            }
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.isVerified && ledger.acknowledged > 20, "\(ledger)")
            #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
            let events = try bed.hosts.map { host in
                try scene.pair.romulus(host, ["events", Scene.vm, "--kind", "restarted"]).output
            }
            #expect(events[0].contains("was started here from its disk") && events[1].isEmpty, "\(events)")
        }
    }

    /// An event of host B that is of no VM.
    private func hear(_ kind: String, _ words: String, _ scene: Scene) async throws {
        try await eventually("an event \(kind): \(words)", within: .seconds(30)) {
            try scene.pair.romulus(scene.bed.b, ["events", "--kind", kind]).output.contains(words) ? true : nil
        }
    }

    /// There is no room for the guest's memory at the standby: one sentence, and it stays protected as it was.
    @Test func aTurnThatCannotBeMadeLeavesTheLevel() async throws {
        try await Bed.with { bed in
            let memory = "\(bed.b.shmDirectory)/romulus"
            try Child.run(["mkdir", "-p", "-m", "700", memory])
            try Child.run(["mount", "-t", "tmpfs", "-o", "size=1g,mode=700", "tmpfs", memory])
            // Lazily: the agent lives on for a moment.
            defer { _ = try? Child.run(["umount", "-l", memory]) }
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 100))
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            // It was there when protection began.
            try Child.run(["mount", "-o", "remount,size=64m", memory])
            let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "system", "--wait", "--timeout", "60"])
            #expect(outcome.status == 1 && outcome.errors.contains("hostb"), "\(outcome)")
            let status = try #require(try scene.pair.status(bed.a, Scene.vm))
            #expect(status.level == "restart" && status.state == "protected", "\(status)")
            #expect(try hasGate(bed.a) && bed.b.qemus.isEmpty)
            #expect(try scene.pair.romulus(bed.a, ["dial", Scene.vm, "none"]).status != 0)
            #expect(try scene.pair.romulus(bed.b, ["dial", Scene.vm, "system"]).status == 5, "the guest is not there")
            // Nor could it be started there; the host that would have to says so by itself.
            try await hear("room_short", "web want \(scene.guest.configuration.memoryMiB) MiB", scene)
            try Child.run(["mount", "-o", "remount,size=1g", memory])
            try await hear("room_back", "has room for the guests of hosta", scene)
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The standby is lost in the middle of a turn: the guest does not notice, and is protected again when it is back.
    @Test func aStandbyThatIsLostInATurnIsNoticedByNobody() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 1000))
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            // The memory takes seconds now.
            try bed.a.limitRate("repl0", megabits: 100)
            let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "system"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await eventually("the memory is being attached", within: .seconds(20)) {
                bed.b.qemus.isEmpty ? nil : true
            }
            bed.b.killAll()
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try bed.a.limitRate("repl0", megabits: nil)
            try await scene.pair.start(bed.b)
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(90))
            try await verifier.waitForAnswers()
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
