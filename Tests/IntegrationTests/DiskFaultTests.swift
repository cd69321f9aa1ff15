import Foundation
import TestBed
import Testing

/// A disk of the primary's fails or hangs: the standby goes on with the guest as it was before.
@Suite(.serialized, .timeLimit(.minutes(4))) struct DiskFaultTests {
    struct Case: CustomTestStringConvertible, Sendable {
        var fault: SlowDisk.Fault
        var drive: String
        var testDescription: String { "\(fault.rawValue), \(drive)" }
    }

    /// The bed's guests stop at an error; QEMU's own way is to report it.
    static let reporting = ",werror=report,rerror=report"
    static let cases = [
        Case(fault: .eio, drive: "aio=threads"), Case(fault: .eio, drive: "aio=native" + reporting),
        Case(fault: .enospc, drive: "aio=threads" + reporting), Case(fault: .hang, drive: "aio=threads"),
        Case(fault: .hang, drive: "aio=native"),
    ]

    private func wishes(_ drive: String, _ defaults: [String]) -> Scene.Wishes {
        var wishes = Scene.Wishes()
        wishes.slowReads = 0
        wishes.slowDrive = drive
        wishes.pair.defaults = defaults
        wishes.pair.reprotectsByItself = true
        wishes.pair.arbiter = .witness
        return wishes
    }

    /// What the guest's kernel says of its disks.
    private func complaints(_ scene: Scene) throws -> String {
        try GuestControl(client: scene.bed.client, address: scene.address).shell("dmesg | grep 'I/O error' || true")
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test(arguments: cases) func itGoesUnnoticed(_ broken: Case) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, wishes(broken.drive, ["disk_timeout_ms: 1000"]))
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try storage.be(broken.fault)
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            #expect(try complaints(scene) == "")
            let told = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "disk_fault"]).output
            #expect(told.contains("goes on with the guest as it was before"), "\(told)")
            // Mended, the disk is the standby's.
            try storage.be(nil)
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(60))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// What the standby's storage does not take is found out while the guest runs at the primary, which goes on.
    @Test(arguments: [SlowDisk.Fault.flush, .hang])
    func aStandbyWhoseStorageFailsIsNone(fault: SlowDisk.Fault) async throws {
        try await Bed.with { bed in
            let (data, storage) = try await Scene.wishesForData(on: bed, mebibytes: 16, delayMilliseconds: 0)
            var wishes = data
            wishes.pair.defaults = ["disk_timeout_ms: 1000"]
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try storage.be(fault)
            let control = GuestControl(client: bed.client, address: scene.address)
            try control.shell("dd if=/dev/zero of=/dev/vdb bs=64k count=4 oflag=direct 2>&1")
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(30))
            let told = try scene.pair.romulus(bed.a, ["events", Scene.vm]).output
            #expect(told.contains("the standby is lost"), "\(told)")
            #expect(told.contains(fault == .hang ? "the storage of its images hangs" : "a flush of"), "\(told)")
            if fault == .hang { try storage.be(nil) }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    @Test func theGuestSeesItWhereTheOperatorWantsThat() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, wishes("aio=threads" + Self.reporting, ["disk_fault: report"]))
            let storage = try #require(scene.storage)
            try await scene.pair.protect(scene.guest)
            try storage.be(.eio)
            let control = GuestControl(client: bed.client, address: scene.address)
            let answer = try control.shell("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>&1 || true")
            #expect(answer.contains("I/O error") || answer.contains("Input/output error"), "\(answer)")
            #expect(try complaints(scene) != "")
            try storage.be(nil)
            let told = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "disk_fault"]).output
            #expect(told.contains("disk_fault is “report”"), "\(told)")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
        }
    }
}
