import Foundation
import Storage
import Testing

/// Whole conversations with mutated bytes: the server answers or hangs up, never traps, never calls the sink outside of
/// the disk, and serves the next client as if nothing had been.
@Suite(.timeLimit(.minutes(2)))
struct NBDFuzzTests {
    static let size = 256 << 10

    /// Refuses in its own words what the server must never pass on.
    private final class BoundedSink: DiskSink {
        /// Done at once or later, or not at all, as the data say.
        func write(
            disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
        ) throws(StorageError) -> DiskTicket {
            check(offset, UInt64(data.count), max: 32 << 20)
            if let last = data.last, last == 0xfe { throw .unavailable("by order of the data") }
            return DiskTicket(UInt64(data.last ?? 0) & 3)
        }
        func zero(
            disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
        ) throws(StorageError) -> DiskTicket {
            check(offset, length, max: UInt64(UInt32.max))
            return DiskTicket(length & 3)
        }
        func flush(disk: UInt16) throws(StorageError) -> DiskTicket { .done }
        func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
            replies.settle(cookie, ticket == DiskTicket(3) ? .unavailable("by order of the ticket") : nil)
        }
        func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {
            check(offset, UInt64(into.count), max: 32 << 20)
            into.initializeMemory(as: UInt8.self, repeating: 0xaa)
        }
        private func check(_ offset: UInt64, _ length: UInt64, max: UInt64) {
            let size = UInt64(NBDFuzzTests.size)
            guard length >= 1, length <= max, offset <= size, length <= size - offset else {
                fatalError("the server passed on \(length) bytes at \(offset)")
            }
        }
    }

    @Test(arguments: 1...8)
    func `mutated conversations end, and the server goes on`(seed: Int) throws {
        var numbers = SeededGenerator(seed: UInt64(seed) &* 7919)
        let server = NBDServer(
            .init(name: "disk", disk: 0, size: UInt64(Self.size)), threadName: "nbd-fuzz", sink: BoundedSink())
        defer { server.stop() }
        let before = residentBytes()
        for _ in 0..<150 {
            var bytes = conversation(&numbers)
            mutate(&bytes, &numbers)
            let talker = try NBDTalker(server)
            let sending = Thread.start { [bytes] in
                talker.send(bytes)
                talker.finishSending()
            }
            _ = try talker.receiveAll()
            sending.wait()
        }
        // Its answers are right, also after all that.
        let talker = try NBDTalker(server)
        try talker.open()
        talker.send(NBDTalker.request(0, offset: 5, length: 3))
        #expect(try talker.reply() == 0)
        #expect(try talker.receive(3) == [0xaa, 0xaa, 0xaa])
        server.stop()
        #expect(server.statistics.broken > 0)
        // 16 connections might hold their 32 MiB each; one after the other, they do not.
        #expect(residentBytes() - before < 512 << 20)
    }

    private func conversation(_ numbers: inout SeededGenerator) -> [UInt8] {
        var bytes = NBDTalker.big(UInt32.random(in: 1...3, using: &numbers) | 1)
        for _ in 0..<Int.random(in: 0...3, using: &numbers) {
            bytes += NBDTalker.option(
                .random(in: 3...12, using: &numbers), numbers.bytes(.random(in: 0...40, using: &numbers)))
        }
        bytes +=
            Bool.random(using: &numbers)
            ? NBDTalker.go("disk", information: [1, 2, 3]) : NBDTalker.option(1, Array("disk".utf8))
        for index in 0..<Int.random(in: 0...20, using: &numbers) {
            let type = UInt16.random(in: 0...7, using: &numbers)
            let length = UInt32.random(in: 0...9000, using: &numbers)
            bytes += NBDTalker.request(
                type, flags: .random(in: 0...3, using: &numbers), cookie: UInt64(index),
                offset: .random(in: 0...UInt64(Self.size), using: &numbers), length: length)
            if type == 1 { bytes += numbers.bytes(Int(length)) }
        }
        return bytes
    }

    /// Flips, overwrites with the numbers that break arithmetic, cuts, doubles.
    private func mutate(_ bytes: inout [UInt8], _ numbers: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 0...6, using: &numbers) where !bytes.isEmpty {
            let at = Int.random(in: 0..<bytes.count, using: &numbers)
            switch Int.random(in: 0..<5, using: &numbers) {
            case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &numbers)
            case 1:
                let value: UInt64 = [UInt64.max, 0, 1 << 63, UInt64(UInt32.max), 32 << 20, (32 << 20) + 1]
                    .randomElement(using: &numbers)!
                for (index, byte) in NBDTalker.big(value).enumerated() where at + index < bytes.count {
                    bytes[at + index] = byte
                }
            case 2: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...30, using: &numbers)))
            case 3: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 40)], at: at)
            default: bytes.removeLast(bytes.count - at)
            }
        }
    }

    private func residentBytes() -> Int {
        let words = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
        return words.count > 1 ? (Int(words[1]) ?? 0) * 4096 : 0
    }
}
