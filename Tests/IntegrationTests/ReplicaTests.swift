import Foundation
import QEMU
import TestBed
import Testing

/// The replica against the guest, and QEMU after protection against QEMU before it.
@Suite(.serialized, .timeLimit(.minutes(4))) struct ReplicaTests {
    @Test func everyPageOfACommittedEpochIsEqual() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 800))
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(2))
            let monitor = try scene.testMonitor()
            for _ in 1...3 {
                // The guest stands still by another hand; the agent seals what is there and goes no further.
                let sealed = try await quiet(scene, monitor)
                #expect(sealed > 10)
                let differing = try PageComparison.differingPages(
                    .memory(pid: scene.guest.pid, address: try address(monitor)),
                    .file(try ramFile(bed)), bytes: 256 << 20)
                #expect(differing.isEmpty, "\(differing.count) pages differ, the first is \(differing.first ?? 0)")
                try monitor.execute("cont")
                try await Task.sleep(for: .milliseconds(500))
            }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The standby's agent is gone for a while, and the guest goes on: the new replica starts from the memory of the old
    /// one, and only what changed is sent again, pages that became zero among it.
    @Test func everyPageIsEqualAfterACopyOntoAnOldBase() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            let control = GuestControl(client: bed.client, address: scene.address)
            try control.shell("dd if=/dev/urandom of=/dev/shm/junk bs=1M count=24")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 400))
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            let first = try scene.memoryCopies()
            #expect(first.count == 1 && first.first?.present == 0)

            try await scene.pair.agent(bed.b)?.killAndWait()
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try control.shell("dd if=/dev/zero of=/dev/shm/junk bs=1M count=16 conv=notrunc")
            try control.shell("dd if=/dev/urandom of=/dev/shm/more bs=1M count=4")
            try await scene.pair.start(bed.b)
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))

            let monitor = try scene.testMonitor()
            let sealed = try await quiet(scene, monitor)
            #expect(sealed > 10)
            let differing = try PageComparison.differingPages(
                .memory(pid: scene.guest.pid, address: try address(monitor)),
                .file(try ramFile(bed)), bytes: 256 << 20)
            #expect(differing.isEmpty, "\(differing.count) pages differ, the first is \(differing.first ?? 0)")
            try monitor.execute("cont")
            let copies = try scene.memoryCopies()
            let second = try #require(copies.last)
            print("first copy: \(copies.first.map(String.init(describing:)) ?? "-"); onto the old base: \(second)")
            #expect(copies.count == 2 && second.sent >= 16 << 8, "the zeroed pages at least were sent")
            #expect(second.present > second.sent)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Stops the guest and waits until the standby has applied everything and nothing new comes; returns its epoch. A
    /// `stop` that falls into a checkpoint is undone by the checkpoint's end, so it may take several. One that comes just after a
    /// checkpoint leaves so little that the next one is that of an idle guest, after a second.
    private func quiet(_ scene: Scene, _ monitor: QMPConnection) async throws -> UInt64 {
        var last: UInt64 = 0
        var same = 0
        while same < 10 {
            if try monitor.execute("query-status")["running"]?.bool == true { try monitor.execute("stop") }
            try await Task.sleep(for: .milliseconds(150))
            let epoch = try scene.pair.status(scene.bed.b, Scene.vm)?.epoch ?? 0
            same = epoch == last ? same + 1 : 0
            last = epoch
        }
        return last
    }

    private func address(_ monitor: QMPConnection) throws -> UInt64 {
        let text = try monitor.monitor("gpa2hva 0")
        guard let word = text.split(whereSeparator: \.isWhitespace).last,
            let address = UInt64(word.dropFirst(2), radix: 16)
        else { throw BedError("gpa2hva: \(text)") }
        return address
    }

    private func ramFile(_ bed: Bed) throws -> String {
        let directory = "\(bed.b.shmDirectory)/romulus/\(Scene.vm)"
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        guard let name = names.first(where: { $0.hasSuffix(".memory") }) else {
            throw BedError("no RAM file among \(names)")
        }
        return "\(directory)/\(name)"
    }

    @Test func unprotectLeavesQEMUAsItWas() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            let monitor = try scene.testMonitor()
            let before = try Trace(of: scene.guest.pid, monitor)
            for _ in 1...2 {
                let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
                try await scene.pair.protect(scene.guest)
                #expect(try Trace(of: scene.guest.pid, monitor) != before)
                try await Task.sleep(for: .milliseconds(700))
                let outcome = try scene.pair.romulus(bed.a, ["unprotect", Scene.vm])
                #expect(outcome.status == 0, "\(outcome.errors)")
                let report = try await verifier.finish()
                #expect(report.isClean, "\(report)")
                let after = try Trace(of: scene.guest.pid, monitor)
                #expect(after == before)
                try await eventually("the replica is given up", within: .seconds(30)) {
                    try scene.pair.status(bed.b, Scene.vm) == nil ? true : nil
                }
            }
        }
    }
}

/// What could be left behind in a QEMU process.
struct Trace: Equatable {
    var objects: [String]
    var chardevs: [String]
    var nodes: [String]
    var jobs: Int
    var fdsets: Int
    var descriptors: [String]
    /// Mappings that a userfaultfd watches (`uw` or `um` among their flags).
    var watched: Int
    var tracer: String

    init(of pid: pid_t, _ monitor: QMPConnection) throws {
        func names(_ answer: JSONValue, _ key: String) -> [String] {
            (answer.array ?? []).compactMap { $0[key]?.string }.sorted()
        }
        objects = names(try monitor.execute("qom-list", ["path": "/objects"]), "name")
        chardevs = names(try monitor.execute("query-chardev"), "label")
        nodes = names(try monitor.execute("query-named-block-nodes", ["flat": true]), "node-name")
        jobs = try monitor.execute("query-block-jobs").array?.count ?? 0
        fdsets = try monitor.execute("query-fdsets").array?.count ?? 0
        let directory = "/proc/\(pid)/fd"
        descriptors = try FileManager.default.contentsOfDirectory(atPath: directory).sorted().compactMap { number in
            guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\(number)")
            else { return nil }
            // The monitors' own connections come and go.
            return target.hasPrefix("socket:") ? nil : "\(number) \(target)"
        }
        let maps = String(decoding: FileManager.default.contents(atPath: "/proc/\(pid)/smaps") ?? Data(), as: UTF8.self)
        watched =
            maps.split(separator: "\n").filter { line in
                line.hasPrefix("VmFlags:") && line.split(separator: " ").contains { $0 == "uw" || $0 == "um" }
            }.count
        let status = String(
            decoding: FileManager.default.contents(atPath: "/proc/\(pid)/status") ?? Data(), as: UTF8.self)
        tracer = status.split(separator: "\n").first { $0.hasPrefix("TracerPid:") }.map(String.init) ?? ""
    }
}
