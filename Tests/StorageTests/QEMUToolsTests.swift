import Foundation
import Storage
import Testing

/// QEMU's own NBD client against the server.
@Suite(.timeLimit(.minutes(2)))
struct QEMUToolsTests {
    static let size = 8 << 20
    let sink = MemorySink(size: size)
    let directory: TemporaryDirectory
    let server: NBDServer
    let address: String

    init() throws {
        directory = try TemporaryDirectory()
        server = NBDServer(.init(name: "vda", disk: 0, size: UInt64(Self.size)), threadName: "nbd-tools", sink: sink)
        try server.listen(at: directory.file("nbd"))
        address = "nbd+unix:///vda?socket=\(directory.file("nbd"))"
    }

    @Test func `qemu-img finds the export and its size`() throws {
        defer { server.stop() }
        let info = try succeed("qemu-img", "info", "--output=json", "-f", "raw", address)
        let answer = try #require(try JSONSerialization.jsonObject(with: Data(info.utf8)) as? [String: Any])
        #expect(answer["virtual-size"] as? Int == Self.size)
        let list = try succeed("qemu-nbd", "--list", "--socket=\(directory.file("nbd"))")
        #expect(list.contains("vda") && list.contains("size:  8388608"))
        #expect(list.contains("( flush fua trim zeroes multi cache )"), "\(list)")
        #expect(list.contains("min block: 1") && list.contains("opt block: 4096"))
        #expect(list.contains("max block: 33554432"))
        let unknown = try run("qemu-img", "info", "-f", "raw", "nbd+unix:///vdb?socket=\(directory.file("nbd"))")
        #expect(unknown.status != 0)
    }

    @Test func `qemu-img copies an image in and compares it`() throws {
        defer { server.stop() }
        var numbers = SeededGenerator(seed: 30)
        var bytes = [UInt8](repeating: 0, count: Self.size)
        bytes.replaceSubrange(70_000..<3_000_000, with: numbers.bytes(2_930_000))
        bytes.replaceSubrange(Self.size - 5..<Self.size, with: [1, 2, 3, 4, 5])
        let image = try directory.write("image", bytes)
        try succeed("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, address)
        #expect(firstDifference(sink.bytes, bytes) == nil)
        try succeed("qemu-img", "compare", "-f", "raw", "-F", "raw", image, address)
        sink.state.withLock { $0.bytes[4_000_000] = 1 }
        #expect(try run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, address).status == 1)
    }

    @Test func `qemu-io's writes, zeros, discards, flushes and FUA arrive as such`() throws {
        defer { server.stop() }
        try succeed(
            "qemu-io", "-f", "raw", "-t", "none", "-d", "unmap", "-c", "write -P 0x11 0 64k", "-c", "write -P 0x22 1 3",
            "-c", "write -f -P 0x33 8M-1 1".replacingOccurrences(of: "8M-1", with: "\(Self.size - 1)"), "-c",
            "write -z 4096 8192", "-c", "write -z -u 65536 4096", "-c", "discard 1M 64k", "-c", "flush", "-c",
            "read -P 0x22 1 3", "-c", "read -P 0x11 4 4092", "-c", "read -P 0 4096 8192", address)
        let seen = sink.calls
        for call in [
            MemorySink.Call.write(disk: 0, offset: 0, length: 65536, fua: false),
            .write(disk: 0, offset: 1, length: 3, fua: false),
            .write(disk: 0, offset: UInt64(Self.size) - 1, length: 1, fua: true),
            .zero(disk: 0, offset: 4096, length: 8192, mayUnmap: false, fua: false),
            .zero(disk: 0, offset: 65536, length: 4096, mayUnmap: true, fua: false),
            .zero(disk: 0, offset: 1 << 20, length: 65536, mayUnmap: true, fua: false),
            .flush(disk: 0),
            .read(disk: 0, offset: 4, length: 4092),
        ] { #expect(seen.contains(call), "\(call) is missing in \(seen)") }
    }

    @Test func `a full sink is ENOSPC for QEMU, any other failure EIO`() throws {
        defer { server.stop() }
        sink.fail(with: .outOfSpace(path: "/b", offset: 0, bytes: 512))
        let full = try run("qemu-io", "-f", "raw", "-c", "write 0 512", address)
        #expect((full.output + full.errors).contains("No space left on device"))
        sink.fail(with: .unavailable("the link is gone"))
        let gone = try run("qemu-io", "-f", "raw", "-c", "read 0 512", address)
        #expect((gone.output + gone.errors).contains("Input/output error"))
    }

    @Test func `several clients at once write beside each other`() async throws {
        defer { server.stop() }
        let address = address
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<4 {
                group.addTask {
                    let writes = (0..<16).flatMap { ["-c", "write -P \(client + 1) \(($0 * 4 + client) * 128)k 128k"] }
                    try succeed("qemu-io", "-f", "raw", writes: writes, address)
                }
            }
            try await group.waitForAll()
        }
        let expected = (0..<Self.size).map { UInt8($0 / (128 << 10) % 4 + 1) }
        #expect(firstDifference(sink.bytes, expected) == nil)
    }
}

@discardableResult
private func succeed(_ tool: String, _ options: String..., writes: [String], _ address: String) throws -> String {
    let result = try run([tool] + options + writes + [address])
    try #require(result.status == 0, "\(result.errors)")
    return result.output
}
