import Foundation
import TestBed
import Testing

/// What the tests of levels below `system` share.
extension Scene {
    /// A guest and its pair with a witness, which is protected again by itself.
    static func withWitness(on bed: Bed, _ change: (inout Wishes) -> Void = { _ in }) async throws -> Scene {
        var wishes = Wishes()
        wishes.vcpus = 1
        wishes.pair.arbiter = .witness
        wishes.pair.reprotectsByItself = true
        change(&wishes)
        return try await make(on: bed, wishes)
    }

    /// The same with a disk that can fail.
    static func atComponent(
        on bed: Bed, drive: String = "aio=threads", _ change: (inout Wishes) -> Void = { _ in }
    ) async throws -> Scene {
        try await withWitness(on: bed) { wishes in
            wishes.hasTestMonitor = true
            wishes.slowReads = 0
            wishes.slowDrive = drive + ",werror=report,rerror=report"
            wishes.pair.defaults = ["disk_bound_ms: 300", "disk_rejoin_seconds: 0"]
            change(&wishes)
        }
    }

    func protectAtComponent() async throws {
        try await pair.protect(guest, ["--level", "component"])
        try await eventually("its disks are served", within: .seconds(20)) { try isServed() ? true : nil }
    }

    static func writes(everyMs: Int = 5) -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.redisIntervalMs = 0
        plan.ledgerIntervalMs = everyMs
        return plan
    }

    func isServed() throws -> Bool {
        let monitor = try testMonitor()
        defer { monitor.close() }
        return "\(try monitor.execute("query-block"))".contains("romulus-served0")
    }

    /// The processes that serve the guest's disks.
    func servers() -> [pid_t] {
        bed.hosts.flatMap(\.processes).filter { pid in
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            return String(decoding: line, as: UTF8.self).contains("disk-server")
        }
    }

    func losses() throws -> [Pair.DiskLoss] { try #require(try pair.status(bed.a, Scene.vm)).diskLoss ?? [] }

    @discardableResult
    func waitUntilLost() async throws -> Pair.DiskLoss {
        try await eventually("the disk is lost", within: .seconds(20)) { try losses().first }
    }

    func rejoin() async throws {
        try await eventually("the disk rejoins", within: .seconds(30)) {
            try losses().isEmpty || pair.romulus(bed.a, ["rejoin", Scene.vm]).status == 0 && losses().isEmpty
                ? true : nil
        }
    }

    func events(_ host: BedHost) throws -> String { try pair.romulus(host, ["events", Scene.vm]).output }

    /// What the guest's kernel says of its disks.
    func complaints() throws -> String {
        try GuestControl(client: bed.client, address: address).shell("dmesg | grep 'I/O error' || true")
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Of a guest that is protected and writes nothing now.
    func expectEqualDisks() throws {
        let digests = try [primaryDisk, standbyDisk].map { try Child.run(["sha256sum", $0]).prefix { $0 != " " } }
        #expect(digests[0] == digests[1], "the two hosts' disks differ")
    }

    /// Nothing that the guest was told to have written is lost.
    static func expectClean(_ verifier: Verifier) async throws {
        let ledger = try #require(try await verifier.finish().ledger)
        #expect(ledger.isVerified && ledger.acknowledged > 20, "\(ledger)")
        #expect(ledger.lost == 0 && ledger.torn == 0 && ledger.unexpected == 0, "\(ledger)")
    }

    /// The guest was booted again, wherever.
    static func waitForBoot(
        after before: String, _ verifier: Verifier, within limit: Duration = .seconds(90)
    ) async throws {
        try await eventually("the guest is up again", within: limit) {
            verifier.control.boot().flatMap { $0 == before ? nil : $0 }
        }
    }
}
