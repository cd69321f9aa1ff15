import Foundation
import TestBed
import Testing

/// Level `component`: a disk of the guest's host fails or hangs, and the guest goes on with the other host's copy.
@Suite(.serialized, .timeLimit(.minutes(4))) struct ComponentTests {
    private func scene(_ bed: Bed, _ drive: String = "aio=threads") async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.vcpus = 1
        wishes.hasTestMonitor = true
        wishes.slowReads = 0
        wishes.slowDrive = drive + ",werror=report,rerror=report"
        wishes.pair.arbiter = .witness
        wishes.pair.reprotectsByItself = true
        wishes.pair.defaults = ["disk_bound_ms: 300", "disk_rejoin_seconds: 0"]
        return try await Scene.make(on: bed, wishes)
    }

    private func protect(_ scene: Scene) async throws {
        try await scene.pair.protect(scene.guest, ["--level", "component"])
        _ = try await eventually("its disks are served", within: .seconds(20)) {
            try nodes(scene).contains("romulus-served0") ? true : nil
        }
    }

    /// Of QEMU, in words.
    private func nodes(_ scene: Scene) throws -> String {
        let monitor = try scene.testMonitor()
        defer { monitor.close() }
        return "\(try monitor.execute("query-block"))"
    }

    /// What the guest's kernel says of its disks.
    private func complaints(_ scene: Scene) throws -> String {
        try GuestControl(client: scene.bed.client, address: scene.address).shell("dmesg | grep 'I/O error' || true")
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func losses(_ scene: Scene) throws -> [Pair.DiskLoss] {
        try #require(try scene.pair.status(scene.bed.a, Scene.vm)).diskLoss ?? []
    }

    private func expectEqualDisks(_ scene: Scene) throws {
        let digests = try [scene.primaryDisk, scene.standbyDisk].map { path in
            try Child.run(["sha256sum", path]).prefix { $0 != " " }
        }
        #expect(digests[0] == digests[1], "the two hosts' disks differ")
    }

    private func load() -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.redisIntervalMs = 0
        plan.ledgerIntervalMs = 5
        return plan
    }

    @Test(arguments: [SlowDisk.Fault.eio, .enospc, .hang])
    func aDiskFailsAndRejoinsUnnoticed(fault: SlowDisk.Fault) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await protect(scene)
            let before = try #require(verifier.control.boot())
            try await Task.sleep(for: .seconds(1))
            try storage.be(fault)
            let lost = try await eventually("the disk is lost", within: .seconds(20)) { try losses(scene).first }
            #expect(!lost.rejoining, "\(lost)")
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(1))
            #expect(try complaints(scene) == "")
            let refused = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "restart", "--wait", "--timeout", "20"])
            #expect(refused.status != 0 && refused.errors.contains("is lost here"), "\(refused)")

            try storage.be(nil)
            _ = try await eventually("the disk rejoins", within: .seconds(30)) {
                try losses(scene).isEmpty
                    || scene.pair.romulus(bed.a, ["rejoin", Scene.vm]).status == 0 && losses(scene).isEmpty ? true : nil
            }
            try await verifier.waitForAnswers()
            #expect(verifier.control.boot() == before)
            #expect(try complaints(scene) == "")
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.isVerified && ledger.acknowledged > 20, "\(ledger)")
            #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
            let events = try scene.pair.romulus(bed.a, ["events", Scene.vm]).output
            #expect(events.contains("disk_fault") && events.contains("disk_rejoined"), "\(events)")
            try expectEqualDisks(scene)
        }
    }

    @Test func itIsTurnedToAndFromTheOtherLevels() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            for level in ["component", "system", "component", "restart"] {
                let outcome = try scene.pair.romulus(
                    bed.a, ["dial", Scene.vm, level, "--wait", "--timeout", "60"])
                #expect(outcome.status == 0, "\(level): \(outcome.errors)")
                let status = try #require(try scene.pair.status(bed.a, Scene.vm))
                #expect(status.level == level && status.state == "protected", "\(status)")
                #expect(try nodes(scene).contains("romulus-served0") == (level == "component"), "\(level)")
                try await verifier.waitForAnswers()
            }
            #expect(verifier.control.boot() == before)
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
            try expectEqualDisks(scene)
        }
    }

    /// A guest that lives by the standby's disk is ended with the link, and goes on there with all that it wrote.
    @Test func aGuestWithoutADiskGoesOnWhereTheDiskIs() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await protect(scene)
            let before = try #require(verifier.control.boot())
            try storage.be(.eio)
            _ = try await eventually("the disk is lost", within: .seconds(20)) { try losses(scene).first }
            try await Task.sleep(for: .seconds(1))
            try bed.a.cutPower()
            try await eventually("the guest is up again", within: .seconds(120)) {
                verifier.control.boot().flatMap { $0 == before ? nil : $0 }
            }
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.isVerified && ledger.acknowledged > 20, "\(ledger)")
            #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
        }
    }

    /// Both agents die, and the one of the guest's host comes back: writes waited for it, and the guest goes on alone.
    @Test func theGuestOutlivesBothAgents() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await protect(scene)
            let before = try #require(verifier.control.boot())
            scene.pair.agent(bed.b)?.kill(SIGSTOP)
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.agent(bed.b)?.killAndWait()
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.start(bed.a)
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(30))
            try await verifier.waitForAnswers()
            #expect(!(try nodes(scene)).contains("romulus-served0"))
            try await scene.pair.start(bed.b)
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            #expect(verifier.control.boot() == before)
            #expect(try complaints(scene) == "")
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.isVerified && ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
        }
    }

    /// The server of the disk is killed: another one takes its place, and the guest saw a disk that was slow.
    @Test func theServerOfADiskIsReplaced() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, load())
            try await protect(scene)
            let servers = try Child.run(["pgrep", "-f", "disk-server.*\(bed.a.runtimeDirectory)"]).split(
                separator: "\n")
            let pid = try #require(servers.compactMap { pid_t($0) }.first)
            kill(pid, SIGKILL)
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(3))
            try await verifier.waitForAnswers()
            #expect(try complaints(scene) == "")
            let ledger = try #require(try await verifier.finish().ledger)
            #expect(ledger.isVerified && ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
        }
    }
}
