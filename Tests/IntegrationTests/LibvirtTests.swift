import Foundation
import TestBed
import Testing

/// A domain of a real libvirtd, protected by its name.
@Suite(.serialized, .timeLimit(.minutes(4))) struct LibvirtTests {
    private static let vm = "web"

    private struct Parts {
        let guest: LibvirtGuest
        let daemon: LibvirtDaemon
        let pair: Pair
    }

    /// A libvirtd at host A with a domain that is defined and not started, and both agents.
    private func parts(_ bed: Bed, hook: String? = nil, reprotects: Bool = false) async throws -> Parts {
        let image = try GuestImage.build(kernel: .cloud)
        let guest = LibvirtGuest(
            disk: try GuestDisk.create("\(bed.a.stateDirectory)/web.raw", mebibytes: 64), on: bed.a)
        let standbyDisk = "\(bed.b.stateDirectory)/web.raw"
        _ = try GuestDisk.create(standbyDisk, mebibytes: 64)
        try bed.b.addTap("tap0")
        let daemon = try await LibvirtDaemon.start(on: bed.a, hook: hook)
        try daemon.define(guest.xml(image))
        var options = Pair.Options()
        options.arbiter = .witness
        options.reprotectsByItself = reprotects
        options.libvirt["a"] = ["  uri: \(daemon.uri)", "  monitor_directory: \(bed.a.runtimeDirectory)"]
        options.vms["b"] = [
            "  \(Self.vm):", "    disks:", "      vda: {path: \(standbyDisk), format: raw}", "    taps:",
            "      hostnet0: tap0",
        ]
        let pair = try await Pair(on: bed, options)
        return Parts(guest: guest, daemon: daemon, pair: pair)
    }

    private func definition(_ daemon: LibvirtDaemon) throws -> String {
        try daemon.virsh(["dumpxml", "--inactive", "--security-info", Self.vm])
    }

    private func list(_ pair: Pair, _ bed: Bed) throws -> String {
        try pair.romulus(bed.a, ["libvirt", "list"]).output
    }

    @Test func aDomainIsPreparedAndProtectedByItsName() async throws {
        try await Bed.with { bed in
            let parts = try await parts(bed)
            let (daemon, pair, guest) = (parts.daemon, parts.pair, parts.guest)
            func romulus(_ words: String...) throws -> Pair.Outcome { try pair.romulus(bed.a, words) }
            // Libvirt orders its controllers anew when it takes a definition that it wrote itself.
            try daemon.define(try definition(daemon))
            let original = try definition(daemon)
            try daemon.virsh(["start", Self.vm])
            #expect(try list(pair, bed).contains("none"))

            // It runs with libvirt's monitor only.
            let early = try romulus("protect", Self.vm, "--standby", "hostb")
            #expect(early.status == 5 && early.errors.contains("romulus libvirt prepare web"), "\(early)")
            let prepared = try romulus("libvirt", "prepare", guest.uuid)
            #expect(prepared.status == 0 && prepared.output.contains("from its next start on"), "\(prepared)")
            #expect(try romulus("protect", Self.vm, "--standby", "hostb").status == 5)
            try daemon.virsh(["destroy", Self.vm])
            try daemon.virsh(["start", Self.vm])
            try await guest.waitUntilReady()
            let monitor = "\(bed.a.runtimeDirectory)/\(Self.vm).qmp"
            #expect(try list(pair, bed).contains("yes   \(monitor)"))
            #expect(try romulus("libvirt", "prepare", Self.vm).output.contains("protect it with"))

            // By its UUID it goes by its name from then on.
            let outcome = try romulus("protect", "libvirt:\(guest.uuid)", "--standby", "hostb", "--wait")
            #expect(outcome.status == 0 && outcome.output.contains("web is protected by hostb"), "\(outcome)")
            let verifier = try await Verifier.start(on: bed.client, guest: guest.address)
            #expect(try pair.status(bed.a, Self.vm)?.qmp == monitor)
            #expect(try list(pair, bed).contains("protected"))

            // libvirt goes on with it, also after its daemon was killed.
            #expect(try daemon.virsh(["domblkstat", Self.vm, "vda"]).contains("rd_bytes"))
            let since = try #require(try pair.status(bed.a, Self.vm)?.since)
            try await daemon.kill()
            try await verifier.waitForAnswers()
            try await daemon.restart()
            #expect(try daemon.virsh(["domname", guest.uuid]).contains(Self.vm))
            try await verifier.waitForAnswers()
            let status = try #require(try pair.status(bed.a, Self.vm))
            #expect(status.state == "protected" && status.since == since, "\(status)")

            bed.a.killAll()
            try await pair.wait(bed.b, Self.vm, for: "running", within: .seconds(60))
            try await verifier.waitForAllAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")

            // What was put into the definition goes without a trace.
            try await daemon.restart()
            try await pair.start(bed.a)
            #expect(try romulus("libvirt", "prepare", "--undo", Self.vm).output.contains("no second monitor"))
            #expect(try definition(daemon) == original)
        }
    }

    @Test func aDomainThatRunsElsewhereDoesNotStart() async throws {
        try await Bed.with { bed in
            let parts = try await parts(bed, hook: try Self.hook(bed))
            let (daemon, pair, guest) = (parts.daemon, parts.pair, parts.guest)
            func start() throws -> Child.Outcome { try daemon.outcome(["start", Self.vm]) }
            #expect(try pair.romulus(bed.a, ["libvirt", "prepare", Self.vm]).status == 0)
            #expect(try start().exit == .code(0), "nobody knows it yet")
            try await guest.waitUntilReady()
            let outcome = try pair.romulus(bed.a, ["protect", "libvirt:web", "--standby", "hostb", "--wait"])
            #expect(outcome.status == 0, "\(outcome)")
            bed.a.killAll()
            try await pair.wait(bed.b, Self.vm, for: "running", within: .seconds(60))

            // Its old host comes back, first without an agent.
            try await daemon.restart()
            let silent = try start()
            #expect(silent.exit == .code(1) && silent.errors.contains("its agent does not answer"), "\(silent)")
            try await pair.start(bed.a)
            let refused = try start()
            #expect(refused.exit == .code(1) && refused.errors.contains("names hostb"), "\(refused)")
            #expect(bed.a.qemus.isEmpty)
            let asked = try pair.romulus(bed.a, ["libvirt", "may-start", Self.vm])
            #expect(asked.status == 5 && asked.errors.contains("romulus libvirt allow web"), "\(asked)")
            #expect(try pair.romulus(bed.a, ["libvirt", "may-start", "other"]).status == 0)

            // The operator has looked: it runs nowhere else.
            bed.b.killAll()
            #expect(try pair.romulus(bed.a, ["libvirt", "allow", Self.vm]).status == 0)
            #expect(try start().exit == .code(0))
        }
    }

    /// The hook that is installed, with the programs and folders of the bed's host.
    private static func hook(_ bed: Bed) throws -> String {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("deploy/libvirt-hook")
        var text = try String(contentsOf: file, encoding: .utf8)
        for (name, value) in [
            ("romulus", try Programs.path("romulus")), ("socket", Pair.socket(bed.a)),
            ("state", "\(bed.a.stateDirectory)/romulus"),
        ] {
            let changed = text.replacing(try Regex("(?m)^\(name)=.*$"), with: "\(name)=\(value)")
            guard changed != text else { throw BedError("the hook does not set \(name).") }
            text = changed
        }
        return text
    }

    /// What libvirt's own commands do to a protected domain: the table of docs/LIBVIRT.md.
    @Test func libvirtsCommandsAreObeyedOrRefused() async throws {
        try await Bed.with { bed in
            let parts = try await parts(bed, hook: try Self.hook(bed), reprotects: true)
            let (daemon, pair, guest) = (parts.daemon, parts.pair, parts.guest)
            #expect(try pair.romulus(bed.a, ["libvirt", "prepare", Self.vm]).status == 0)
            try daemon.virsh(["start", Self.vm])
            try await guest.waitUntilReady()
            let outcome = try pair.romulus(bed.a, ["protect", Self.vm, "--standby", "hostb", "--wait"])
            #expect(outcome.status == 0, "\(outcome)")
            let verifier = try await Verifier.start(on: bed.client, guest: guest.address)
            let since = try #require(try pair.status(bed.a, Self.vm)?.since)

            for words in [
                ["domblkstat", Self.vm, "vda"], ["domstats", Self.vm], ["domiflist", Self.vm], ["dumpxml", Self.vm],
                ["setmem", Self.vm, "\(guest.memoryMiB - 16)M", "--live"], ["domif-setlink", Self.vm, "tap0", "down"],
                ["domif-setlink", Self.vm, "tap0", "up"],
                ["send-key", Self.vm, "KEY_A"],
            ] {
                #expect(try daemon.outcome(words).exit == .code(0), "\(words)")
            }
            for words in [
                ["snapshot-create-as", Self.vm, "s", "--disk-only", "--no-metadata"], ["backup-begin", Self.vm],
                ["blockresize", Self.vm, "vda", "128M"],
            ] {
                let refused = try daemon.outcome(words)
                #expect(refused.exit == .code(1), "\(words): \(refused)")
                #expect(refused.errors.contains("block job") || refused.errors.contains("in use"), "\(refused)")
            }
            try await verifier.waitForAnswers()
            var status = try #require(try pair.status(bed.a, Self.vm))
            #expect(status.state == "protected" && status.since == since, "\(status)")

            // Whoever pauses it is obeyed.
            try daemon.virsh(["suspend", Self.vm])
            try await eventually("the pause is seen", within: .seconds(20)) {
                try pair.romulus(bed.a, ["events", Self.vm]).output.contains("someone else paused the guest")
                    ? true : nil
            }
            try daemon.virsh(["resume", Self.vm])
            try await verifier.waitForAllAnswers()
            status = try #require(try pair.status(bed.a, Self.vm))
            #expect(status.state == "protected" && status.since == since, "\(status)")
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")

            // It is put away, and comes back with all that it had.
            let boot = try #require(verifier.control.boot())
            try daemon.virsh(["managedsave", Self.vm])
            try await pair.wait(bed.a, Self.vm, for: "waiting", within: .seconds(30))
            #expect(bed.b.qemus.isEmpty, "nobody takes over")
            try daemon.virsh(["start", Self.vm])
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(60))
            #expect(verifier.control.boot() == boot)

            // A device comes: protection ends, and the guest runs on.
            let disk = try GuestDisk.create("\(bed.a.stateDirectory)/more.raw", mebibytes: 16)
            try daemon.virsh(["attach-disk", Self.vm, disk.path, "vdb", "--live"])
            try await eventually("the device is seen", within: .seconds(30)) {
                try pair.romulus(bed.a, ["events", Self.vm]).output.contains("devices of web changed") ? true : nil
            }
            #expect(verifier.control.boot() == boot)
        }
    }

    @Test func whatCannotBeAskedIsTold() async throws {
        try await Bed.with { bed in
            let parts = try await parts(bed)
            let unknown = try parts.pair.romulus(bed.a, ["libvirt", "prepare", "nobody"])
            #expect(unknown.status == 4 && unknown.errors.contains("nobody"), "\(unknown)")
            let nowhere = try parts.pair.romulus(bed.a, ["protect", "nobody", "--standby", "hostb"])
            #expect(nowhere.status == 4 && nowhere.errors.contains("--qmp PATH"), "\(nowhere)")
            try await parts.daemon.kill()
            let away = try parts.pair.romulus(bed.a, ["libvirt", "list"])
            #expect(away.status == 1 && away.errors.contains(parts.daemon.uri), "\(away)")
        }
    }
}
