import Crypto
import Foundation
import Storage
import Testing

@Suite(.timeLimit(.minutes(2)))
struct DiskImageTests {
    static let size = 4 << 20
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// An empty image of `Self.size` bytes.
    private func make(_ format: ImageFormat, _ name: String = "disk") throws -> String {
        let path = directory.file("\(name).\(format.rawValue)")
        try succeed("qemu-img", "create", "-q", "-f", format.rawValue, path, "\(Self.size)")
        return path
    }

    private func open(_ path: String, _ format: ImageFormat) throws -> DiskImage {
        try DiskImage(path: path, format: format, expectedSize: UInt64(Self.size))
    }

    /// The guest's view of an image that is closed.
    private func guestBytes(_ path: String, _ format: ImageFormat) throws -> [UInt8] {
        let raw = directory.file("view.raw")
        try succeed("qemu-img", "convert", "-f", format.rawValue, "-O", "raw", path, raw)
        return try contents(of: raw)
    }

    @Test(arguments: ImageFormat.allCases)
    func `writes, zeros and reads agree with a plain array, and with what QEMU then finds`(format: ImageFormat) throws {
        let path = try make(format)
        let image = try open(path, format)
        #expect(image.size == UInt64(Self.size))
        var numbers = SeededGenerator(seed: 1)
        var model = [UInt8](repeating: 0, count: Self.size)
        for _ in 0..<300 {
            let offset = Int.random(in: 0..<Self.size, using: &numbers)
            let length = min(Int.random(in: 1...200_000, using: &numbers), Self.size - offset)
            switch Int.random(in: 0..<4, using: &numbers) {
            case 0, 1:
                let data = numbers.bytes(length)
                try data.withUnsafeBytes { try image.write(offset: UInt64(offset), data: $0) }
                model.replaceSubrange(offset..<offset + length, with: data)
            case 2:
                try image.zero(offset: UInt64(offset), length: UInt64(length), mayUnmap: .random(using: &numbers))
                model.replaceSubrange(offset..<offset + length, with: repeatElement(0, count: length))
            default:
                #expect(try firstDifference(read(image, offset, length), Array(model[offset..<offset + length])) == nil)
            }
        }
        try image.flush()
        try image.close()
        #expect(try firstDifference(guestBytes(path, format), model) == nil)
        if format == .qcow2 { try succeed("qemu-img", "check", "-q", path) }
    }

    @Test(arguments: ImageFormat.allCases)
    func `an image of another size is refused with both sizes`(format: ImageFormat) throws {
        let path = try make(format)
        let error = #expect(throws: StorageError.self) {
            try DiskImage(path: path, format: format, expectedSize: UInt64(Self.size) + 512)
        }
        #expect(error == .wrongSize(path: path, bytes: UInt64(Self.size), expected: UInt64(Self.size) + 512))
        #expect(
            error?.description
                == "the disk image \(path) has 4194304 bytes but the guest's disk has 4194816: resize it (qemu-img resize) or name another image"
        )
        // And nothing of it stays behind.
        try open(path, format).close()
    }

    @Test(arguments: ImageFormat.allCases)
    func `who writes the image shuts the other out`(format: ImageFormat) throws {
        let path = try make(format)
        let image = try open(path, format)
        #expect(throws: StorageError.inUse(path: path)) { try open(path, format) }
        let other = try run("qemu-io", "-f", format.rawValue, "-c", "write 0 512", path)
        #expect(other.status != 0)
        #expect(other.errors.contains("lock"))
        try image.close()
        try succeed("qemu-io", "-f", format.rawValue, "-c", "write 0 512", path)
    }

    @Test(arguments: ImageFormat.allCases)
    func `an image that a running QEMU writes is refused`(format: ImageFormat) throws {
        let path = try make(format)
        let guest = try QEMU(
            [
                "-S", "-drive", "file=\(path),format=\(format.rawValue),if=none,id=d0", "-device",
                "virtio-blk-pci,drive=d0",
            ],
            in: directory, name: "owner")
        #expect(throws: StorageError.inUse(path: path)) { try open(path, format) }
        guest.kill()
        try open(path, format).close()
    }

    @Test func `what cannot be an image is refused in one sentence`() throws {
        let missing = directory.file("missing")
        for format in ImageFormat.allCases {
            let error = #expect(throws: StorageError.self) { try open(missing, format) }
            #expect(error?.description == "cannot open the disk image \(missing): No such file or directory")
        }
        let notQcow = try directory.sparseFile("plain", size: Self.size)
        let error = #expect(throws: StorageError.self) { try open(notQcow, .qcow2) }
        #expect(error?.description.contains("not in qcow2 format") == true, "\(error?.description ?? "")")
        let folder = #expect(throws: StorageError.self) { try open(directory.path, .raw) }
        #expect(folder?.description.contains("Is a directory") == true)
        let device = #expect(throws: StorageError.self) { try open("/dev/null", .raw) }
        #expect(device?.description.contains("neither a regular file nor a block device") == true)
        let relative = #expect(throws: StorageError.self) { try open("disk.qcow2", .qcow2) }
        #expect(relative?.description.contains("start with a slash") == true)
    }

    @Test(arguments: ImageFormat.allCases)
    func `ranges outside and uses after close are refused`(format: ImageFormat) throws {
        let path = try make(format)
        let image = try open(path, format)
        let size = UInt64(Self.size)
        for (offset, length) in [(size, 1), (size - 1, 2), (UInt64.max, 1), (UInt64.max - 1, 4)] {
            let expected = StorageError.outOfBounds(path: path, offset: offset, length: UInt64(length), size: size)
            var bytes = [UInt8](repeating: 0, count: length)
            #expect(throws: expected) { try bytes.withUnsafeBytes { try image.write(offset: offset, data: $0) } }
            #expect(throws: expected) {
                try bytes.withUnsafeMutableBytes { try image.read(offset: offset, into: $0) }
            }
            #expect(throws: expected) { try image.zero(offset: offset, length: UInt64(length), mayUnmap: true) }
        }
        try image.close()
        try image.close()
        #expect(throws: StorageError.closed(path: path)) { try image.flush() }
        #expect(throws: StorageError.closed(path: path)) { try read(image, 0, 1) }
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting a tmpfs"))
    func `a full file system is reported with the path and the bytes`() throws {
        let path = try directory.smallFileSystem(kilobytes: 1024) + "/disk"
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        #expect(truncate(path, Self.size) == 0)
        let image = try open(path, .raw)
        let data = [UInt8](repeating: 1, count: 2 << 20)
        let error = #expect(throws: StorageError.self) {
            try data.withUnsafeBytes { try image.write(offset: 4096, data: $0) }
        }
        #expect(error == .outOfSpace(path: path, offset: 4096, bytes: 2 << 20))
        #expect(
            error?.description
                == "no room for 2097152 bytes at offset 4096 of \(path): free space on its file system or device")
        // What is there can still be read and given back.
        try image.zero(offset: 0, length: UInt64(Self.size), mayUnmap: true)
        try data.withUnsafeBytes { try image.write(offset: 0, data: UnsafeRawBufferPointer(rebasing: $0[..<4096])) }
        #expect(try read(image, 0, 4096) == Array(data[..<4096]))
        try image.close()
    }

    @Test func `zeroing gives space back only where that is allowed`() throws {
        let path = try make(.raw)
        let image = try open(path, .raw)
        let data = [UInt8](repeating: 7, count: Self.size)
        try data.withUnsafeBytes { try image.write(offset: 0, data: $0) }
        try image.flush()
        let full = try allocated(path)
        try image.zero(offset: 0, length: 1 << 20, mayUnmap: false)
        try image.flush()
        #expect(try allocated(path) == full)
        try image.zero(offset: 1 << 20, length: 1 << 20, mayUnmap: true)
        try image.flush()
        #expect(try allocated(path) == full - (1 << 20))
        #expect(try firstDifference(read(image, 0, 2 << 20), [UInt8](repeating: 0, count: 2 << 20)) == nil)
        try image.close()
        #expect(try contents(of: path).count == Self.size)
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: a loop device")) func `a block device is an image too`() throws {
        let backing = try directory.sparseFile("backing", size: Self.size)
        let attached = try run("losetup", "--find", "--show", backing)
        try #require(attached.status == 0, "no loop device here: \(attached.errors)")
        let device = attached.output.trimmingCharacters(in: .whitespacesAndNewlines)
        defer { _ = try? run("losetup", "--detach", device) }
        let image = try open(device, .raw)
        #expect(throws: StorageError.inUse(path: device)) { try open(device, .raw) }
        var numbers = SeededGenerator(seed: 2)
        let data = numbers.bytes(100_000)
        try data.withUnsafeBytes { try image.write(offset: 777, data: $0) }
        // Neither end lies on a block.
        try image.zero(offset: 1000, length: 50_001, mayUnmap: true)
        try image.zero(offset: 80_001, length: 2, mayUnmap: false)
        var expected = data
        expected.replaceSubrange(223..<50_224, with: repeatElement(0, count: 50_001))
        expected.replaceSubrange(79_224..<79_226, with: [0, 0])
        #expect(try firstDifference(read(image, 777, 100_000), expected) == nil)
        try image.flush()
        try image.close()
        #expect(try firstDifference(Array(contents(of: backing)[777..<100_777]), expected) == nil)
    }

    @Test(arguments: [ImageFormat.raw, .qcow2])
    func `an image is written out while it is open`(format: ImageFormat) throws {
        let path = try make(format)
        let image = try open(path, format)
        try [UInt8](repeating: 1, count: 65536).withUnsafeBytes { try image.write(offset: 0, data: $0) }
        try image.writeOut()
        try image.close()
        #expect(throws: StorageError.closed(path: path)) { try image.writeOut() }
    }

    @Test func `a failed flush is final`() throws {
        let path = try make(.qcow2)
        let image = try open(path, .qcow2)
        try [UInt8](repeating: 1, count: 65536).withUnsafeBytes { try image.write(offset: 0, data: $0) }
        try killExporter(of: path)
        let error = try #require(#expect(throws: StorageError.self) { try image.flush() })
        guard case .flushFailed(path, let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains("has ended"), "\(reason)")
        #expect(throws: error) { try image.flush() }
        #expect(throws: error) {
            try [UInt8](repeating: 1, count: 1).withUnsafeBytes { try image.write(offset: 0, data: $0) }
        }
        #expect(throws: error) { try image.zero(offset: 0, length: 1, mayUnmap: true) }
        #expect(throws: StorageError.self) { try image.close() }
    }

    @Test func `closing leaves no process and no socket behind`() throws {
        let path = try make(.qcow2)
        let image = try open(path, .qcow2)
        #expect(try exporters(of: path).count == 1)
        try image.close()
        #expect(try exporters(of: path) == [])
        do { _ = try open(path, .qcow2) }
        #expect(try exporters(of: path) == [])
    }

    // MARK: - Digests

    @Test(arguments: ImageFormat.allCases)
    func `digests are those of the guest's bytes, holes and a short end included`(format: ImageFormat) throws {
        let size = 5 * 65536 + 1536
        let path = directory.file("disk")
        try succeed("qemu-img", "create", "-q", "-f", format.rawValue, path, "\(size)")
        let image = try DiskImage(path: path, format: format, expectedSize: nil)
        var numbers = SeededGenerator(seed: 3)
        var model = [UInt8](repeating: 0, count: size)
        for (offset, length) in [(65536 + 5, 10), (3 * 65536, 65536), (5 * 65536 + 1535, 1)] {
            let data = numbers.bytes(length)
            try data.withUnsafeBytes { try image.write(offset: UInt64(offset), data: $0) }
            model.replaceSubrange(offset..<offset + length, with: data)
        }
        let expected = stride(from: 0, to: size, by: 65536).flatMap {
            Array(SHA256.hash(data: model[$0..<min($0 + 65536, size)]).prefix(16))
        }
        #expect(ChunkDigest.chunks(diskSize: UInt64(size)) == 6)
        #expect(try image.digests(firstChunk: 0, count: 6) == expected)
        #expect(try image.digests(firstChunk: 0, count: 1000) == expected)
        #expect(try image.digests(firstChunk: 2, count: 2) == Array(expected[32..<64]))
        #expect(try image.digests(firstChunk: 6, count: 1) == [])
        #expect(throws: StorageError.self) { try image.digests(firstChunk: 7, count: 1) }
        #expect(throws: StorageError.self) { try image.digests(firstChunk: .max, count: 1) }
        #expect(Array(expected[..<16]) == ChunkDigest.zeroChunk)
        try image.close()
    }

    @Test func `digests are kept for an image that nobody has written since`() throws {
        let path = directory.file("disk")
        try succeed("qemu-img", "create", "-q", "-f", "raw", path, "1M")
        let kept = KeptDigests()
        func reopen() throws -> DiskImage { try DiskImage(path: path, format: .raw, expectedSize: nil, kept: kept) }
        func write(_ image: DiskImage, _ byte: UInt8, at offset: UInt64) throws {
            try [byte].withUnsafeBytes { try image.write(offset: offset, data: $0) }
        }
        var image = try reopen()
        #expect(image.knownDigests == 0)
        let before = try image.digests(firstChunk: 0, count: 16)
        // A change by our own hand costs the chunks that it meets, whether it comes before or after.
        try write(image, 1, at: 3 * 65536)
        try image.zero(offset: 7 * 65536 - 1, length: 2, mayUnmap: false)
        #expect(image.knownDigests == 13)
        image.keepDigests(in: kept)
        try image.close()

        image = try reopen()
        #expect(image.knownDigests == 13)
        let after = try image.digests(firstChunk: 0, count: 16)
        #expect(after != before)
        #expect(Array(after[..<48]) == Array(before[..<48]))
        #expect(image.knownDigests == 16)
        image.keepDigests(in: kept)
        try image.close()

        // A change by another hand costs all of them.
        let other = try DiskImage(path: path, format: .raw, expectedSize: nil)
        try write(other, 9, at: 0)
        try other.close()
        image = try reopen()
        #expect(image.knownDigests == 0)
        #expect(try image.digests(firstChunk: 0, count: 16) != after)
        try image.close()
        image.keepDigests(in: kept)
        #expect(try reopen().knownDigests == 0, "a closed image tells nothing")
    }

    // MARK: -

    private func read(_ image: DiskImage, _ offset: Int, _ length: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: length)
        try bytes.withUnsafeMutableBytes { try image.read(offset: UInt64(offset), into: $0) }
        return bytes
    }

    /// Bytes that the file takes on its file system.
    private func allocated(_ path: String) throws -> Int {
        var status = stat()
        try #require(stat(path, &status) == 0)
        return Int(status.st_blocks) * 512
    }

}

/// The qemu-nbd processes that have that image on their command line.
func exporters(of path: String) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter {
        guard let words = try? contents(of: "/proc/\($0)/cmdline").split(separator: 0) else { return false }
        return words.first.map { $0.elementsEqual("qemu-nbd".utf8) } == true
            && words.last.map { $0.elementsEqual(path.utf8) } == true
    }
}

func killExporter(of path: String) throws {
    let pids = try exporters(of: path)
    try #require(pids.count == 1)
    kill(pids[0], SIGKILL)
}
