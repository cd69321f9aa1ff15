import Foundation
import Storage
import Testing

/// An image that a standby QEMU (`-incoming`) has open, while the agent writes it: what the QEMU then sees.
@Suite(.timeLimit(.minutes(2)))
struct StandbyImageTests {
    static let size = 16 << 20
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    struct Case: Sendable, CustomTestStringConvertible {
        var format: ImageFormat
        /// QEMU's `cache=`; `none` reads past the page cache.
        var cache: String
        var imageFirst: Bool
        var testDescription: String { "\(format.rawValue), cache=\(cache), \(imageFirst ? "agent" : "QEMU") first" }
    }

    private static let cases = ImageFormat.allCases.flatMap { format in
        ["writeback", "none"].flatMap { cache in
            [true, false].map { Case(format: format, cache: cache, imageFirst: $0) }
        }
    }

    private func device(_ path: String, _ format: ImageFormat, _ cache: String = "writeback") -> [String] {
        [
            "-drive", "file=\(path),format=\(format.rawValue),if=none,id=d0,cache=\(cache),file.drop-cache=off",
            "-device",
            "virtio-blk-pci,drive=d0",
        ]
    }

    /// The rest of the state comes from a second QEMU that has not started its guest.
    private func migrate(to standby: QEMU) throws {
        let empty = try directory.sparseFile("source", size: Self.size)
        let source = try QEMU(["-S"] + device(empty, .raw), in: directory, name: "source")
        try source.command("migrate-set-capabilities", ["capabilities": [["capability": "events", "state": true]]])
        try standby.command("migrate-incoming", ["uri": "unix:\(directory.file("migration"))"])
        try source.command("migrate", ["uri": "unix:\(directory.file("migration"))"])
        repeat {
            try source.waitForEvent("MIGRATION")
        } while try source.command("query-migrate") as? [String: Any] == nil
        while try standby.status() == "inmigrate" { sched_yield() }
    }

    @Test(arguments: cases)
    func `what the agent wrote is what the standby QEMU reads once it is live`(scene: Case) throws {
        let path = directory.file("disk")
        try succeed("qemu-img", "create", "-q", "-f", scene.format.rawValue, path, "\(Self.size)")
        var early: DiskImage?
        if scene.imageFirst {
            early = try DiskImage(path: path, format: scene.format, expectedSize: UInt64(Self.size))
        }
        let standby = try QEMU(
            ["-incoming", "defer"] + device(path, scene.format, scene.cache), in: directory, name: "standby")
        let image = try early ?? DiskImage(path: path, format: scene.format, expectedSize: UInt64(Self.size))
        var numbers = SeededGenerator(seed: 60)
        var model = [UInt8](repeating: 0, count: Self.size)
        for _ in 0..<60 {
            let offset = Int.random(in: 0..<Self.size - 70_000, using: &numbers)
            let data = numbers.bytes(.random(in: 1...70_000, using: &numbers))
            try data.withUnsafeBytes { try image.write(offset: UInt64(offset), data: $0) }
            model.replaceSubrange(offset..<offset + data.count, with: data)
        }
        try image.zero(offset: 3 << 20, length: 1 << 20, mayUnmap: true)
        model.replaceSubrange(3 << 20..<4 << 20, with: repeatElement(0, count: 1 << 20))
        // What QEMU has seen of the disk while it waits must not stay with it.
        try standby.io("d0", "read 0 16M")
        try image.close()
        try migrate(to: standby)
        try standby.command("cont")
        #expect(try standby.status() == "running")
        #expect(try firstDifference(guestView(standby), model) == nil)
        // And it writes.
        try standby.io("d0", "write -P 7 512 512")
        try standby.quit()
        if scene.format == .qcow2 { try succeed("qemu-img", "check", "-q", path) }
        let raw = directory.file("raw")
        try succeed("qemu-img", "convert", "-f", scene.format.rawValue, "-O", "raw", path, raw)
        model.replaceSubrange(512..<1024, with: repeatElement(7, count: 512))
        #expect(try firstDifference(contents(of: raw), model) == nil)
    }

    @Test(arguments: ImageFormat.allCases)
    func `a standby QEMU that goes live before the image was closed is refused it`(format: ImageFormat) throws {
        let path = directory.file("disk")
        try succeed("qemu-img", "create", "-q", "-f", format.rawValue, path, "\(Self.size)")
        let image = try DiskImage(path: path, format: format, expectedSize: UInt64(Self.size))
        let standby = try QEMU(["-incoming", "defer"] + device(path, format), in: directory, name: "standby")
        try migrate(to: standby)
        let refusal = #expect(throws: QEMU.QMPFailure.self) { try standby.command("cont") }
        #expect(refusal?.words.contains("lock") == true)
        #expect(try standby.status() != "running")
        try [UInt8](repeating: 4, count: 4096).withUnsafeBytes { try image.write(offset: 8192, data: $0) }
        try image.close()
        // A raw image can be tried again. Of a qcow2 this QEMU has read the metadata when it was refused, so what was
        // written since would be missing, or lost: it must not be used any more.
        guard format == .raw else { return }
        try standby.command("cont")
        #expect(try standby.status() == "running")
        #expect(try guestView(standby)[8191..<12289].elementsEqual([0] + [UInt8](repeating: 4, count: 4096) + [0]))
    }

    private func guestView(_ standby: QEMU) throws -> [UInt8] {
        let live = try #require((try standby.command("query-block") as? [[String: Any]])?.first)
        let inserted = try #require(live["inserted"] as? [String: Any])
        let node = try #require(inserted["node-name"] as? String)
        return try standby.contents(ofNode: node, in: directory, size: Self.size)
    }
}
