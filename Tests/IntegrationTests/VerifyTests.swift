import Foundation
import QEMU
import TestBed
import Testing

/// `romulus verify`: the replica's memory against the guest's, while the guest runs.
@Suite(.serialized, .timeLimit(.minutes(4))) struct VerifyTests {
    private static func wishes(_ kind: String) -> Scene.Wishes {
        var wishes = Scene.Wishes()
        wishes.hasTestMonitor = true
        if kind == "memfd" {
            wishes.moreArguments = [
                "-object", "memory-backend-memfd,id=ram0,size=\(wishes.memoryMiB)M,share=on",
                "-machine", "memory-backend=ram0",
            ]
        }
        return wishes
    }

    @Test(arguments: ["private", "memfd"]) func underLoadEveryPageIsEqual(kind: String) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, Self.wishes(kind))
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            for _ in 1...3 {
                let found = try scene.pair.verify(scene.guest)
                print("verified under load: \(found)")
                #expect(found.over && found.pages >= 65_536 && found.epochs > 1)
                #expect(found.equal + found.hot + found.discarded == found.pages)
                #expect(try #require(found.firstEpoch) < #require(found.lastEpoch))
            }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            // Quiet, and with epochs of a second.
            let idle = try scene.pair.verify(scene.guest, share: 0.99)
            print("verified idle: \(idle)")
            #expect(idle.seconds < 30)
            let events = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "verified"]).output
            #expect(events.split(separator: "\n").count == 4 && events.contains(", 0 differ"), "\(events)")
        }
    }

    /// The host takes memory of the guest and gives it back, while reads come late into what it has.
    @Test(arguments: ["private", "memfd"]) func aBalloonLeavesEveryPageEqual(kind: String) async throws {
        try await Bed.with { bed in
            var wishes = Self.wishes(kind)
            wishes.slowReads = 5
            wishes.moreArguments += ["-device", "virtio-balloon-pci"]
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            try await scene.pair.protect(scene.guest)
            for mebibytes in [176, 256] {
                let bytes = mebibytes << 20
                try monitor.execute("balloon", ["value": .integer(Int64(bytes))])
                try await eventually("the guest has \(mebibytes) MiB", within: .seconds(30)) {
                    try monitor.execute("query-balloon")["actual"]?.uint64 == UInt64(bytes) ? true : nil
                }
                let found = try scene.pair.verify(scene.guest)
                print("\(kind), \(mebibytes) MiB: \(found)")
            }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Somebody spoils the replica.
    @Test func aDamagedPageIsFoundAndMended() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, Self.wishes("private"))
            try await scene.pair.protect(scene.guest)
            let pages = [4100, 4101, 5000]
            for page in pages { try Self.damage(bed, page) }
            let found = try scene.pair.verification(bed.a, Scene.vm)
            print("damaged: \(found)")
            #expect(found.differences.map(\.page) == pages && found.differences.allSatisfy { $0.block == "pc.ram" })
            #expect(found.differing == pages.count && found.mended == pages.count)
            try scene.pair.verify(scene.guest)
            let events = try scene.pair.romulus(bed.a, ["events", Scene.vm, "--kind", "verified"]).output
            #expect(events.contains("3 differ, 3 of those were sent again") && events.contains("page 4100 of pc.ram"))
        }
    }

    /// The guest's kernel, which nobody writes.
    private static func damage(_ bed: Bed, _ page: Int) throws {
        let directory = "\(bed.b.shmDirectory)/romulus/\(Scene.vm)"
        let name = try #require(
            FileManager.default.contentsOfDirectory(atPath: directory).first { $0.hasSuffix(".memory") })
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: "\(directory)/\(name)"))
        defer { try? file.close() }
        let place = UInt64(page * 4096 + 100)
        try file.seek(toOffset: place)
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: place)
        try file.write(contentsOf: Data([byte ^ 0xff]))
    }

    /// An agent that forgets a written page now and then is found out once the guest leaves the page alone.
    @Test func aDroppedPageIsFound() async throws {
        try await Bed.with { bed in
            var wishes = Self.wishes("private")
            wishes.pair.program = "romulusd-planted"
            wishes.pair.environment = ["ROMULUS_PLANTED_FAULT": "skip-dirty-page"]
            let scene = try await Scene.make(on: bed, wishes)
            let control = GuestControl(client: bed.client, address: scene.address)
            try await scene.pair.protect(scene.guest)
            var found: Pair.Verification?
            for _ in 1...5 where found?.differing ?? 0 == 0 {
                try control.dirty(GuestControl.Dirtying(pages: 600, periodMs: 20, workingSet: 8192, pattern: .random))
                try await Task.sleep(for: .seconds(2))
                try control.dirty(GuestControl.Dirtying(pages: 0))
                found = try scene.pair.verification(bed.a, Scene.vm)
                print("with dropped pages: \(String(describing: found))")
            }
            #expect(found?.differing ?? 0 > 0, "no dropped page was found")
        }
    }

    /// The link is so slow that a verification is under way for as long as is needed.
    @Test func itEndsWithItsClientAndWithItsStandby() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, Self.wishes("private"))
            try await scene.pair.protect(scene.guest)
            try bed.b.limitRate("repl0", megabits: 1)
            let command = [try Programs.path("romulus"), "verify", Scene.vm, "--socket", Pair.socket(bed.a)]
            let first = try await Self.underWay(bed, command)
            let second = try scene.pair.romulus(bed.a, ["verify", Scene.vm])
            #expect(second.status == 5 && second.errors.contains("being done already"), "\(second)")
            first.kill(SIGKILL)
            try await first.wait()

            let third = try await Self.underWay(bed, command)
            #expect(third.isRunning, "\(third.errors)")
            try await scene.pair.agent(bed.b)?.killAndWait()
            let exit = try await eventually("a verification ends with its standby", within: .seconds(20)) { third.exit }
            #expect(exit == .code(1) && third.errors.contains("while its replica was verified"), "\(third.errors)")
        }
    }

    /// A client that was not refused: it is still there after a second.
    private static func underWay(_ bed: Bed, _ command: [String]) async throws -> Child {
        let end = ContinuousClock.now + .seconds(20)
        while true {
            let client = try bed.a.spawn(command, name: "verify")
            try await Task.sleep(for: .seconds(1))
            if client.isRunning { return client }
            guard .now < end else { throw BedError("romulus verify ends at once: \(client.errors)") }
        }
    }

    @Test func whatCannotBeVerifiedIsRefused() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed, Self.wishes("private"))
            let unknown = try scene.pair.romulus(bed.a, ["verify", Scene.vm])
            #expect(unknown.status == 4, "\(unknown)")
            try await scene.pair.protect(scene.guest)
            let elsewhere = try scene.pair.romulus(bed.b, ["verify", Scene.vm])
            #expect(elsewhere.status == 5 && elsewhere.errors.contains("verify it at hosta"), "\(elsewhere)")
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            let refused = try await eventually("a paused guest is refused", within: .seconds(20)) {
                if try monitor.execute("query-status")["running"]?.bool == true { try monitor.execute("stop") }
                let outcome = try scene.pair.romulus(bed.a, ["verify", Scene.vm])
                return outcome.errors.contains("somebody paused") ? outcome : nil
            }
            #expect(refused.status == 5, "\(refused)")
            try monitor.execute("cont")
            try scene.pair.verify(scene.guest)
            #expect(try scene.pair.romulus(bed.a, ["unprotect", Scene.vm]).status == 0)
            let unprotected = try scene.pair.romulus(bed.a, ["verify", Scene.vm])
            #expect(unprotected.status == 5 || unprotected.status == 4, "\(unprotected)")
        }
    }
}
