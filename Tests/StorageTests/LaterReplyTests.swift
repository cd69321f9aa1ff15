import Foundation
import Storage
import Testing

/// Requests that are done only some time after the sink has them.
@Suite(.timeLimit(.minutes(2)))
struct LaterReplyTests {
    static let size = 8 << 20
    let sink = TicketSink(size: size)
    let server: NBDServer

    init() {
        server = NBDServer(.init(name: "disk", disk: 0, size: UInt64(Self.size)), threadName: "nbd-later", sink: sink)
    }

    /// A sink that lets requests wait is let go before the server is stopped.
    private func stop() {
        sink.grantAll()
        server.stop()
    }

    private func write(_ talker: NBDTalker, _ cookies: Range<UInt64>) {
        for cookie in cookies {
            talker.send(NBDTalker.request(1, cookie: cookie, offset: cookie, length: 1) + [UInt8(cookie & 0xff)])
        }
    }

    @Test func `eight writes reach the sink before one is answered, and are answered in order`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        write(talker, 0..<8)
        sink.await(waitedFor: 8)
        #expect(talker.isSilent)
        sink.grant(through: 3)
        for cookie in UInt64(0)..<3 { #expect(try talker.reply(cookie: cookie) == 0) }
        #expect(talker.isSilent)
        sink.grant(through: 8)
        for cookie in UInt64(3)..<8 { #expect(try talker.reply(cookie: cookie) == 0) }
        #expect(sink.bytes[..<8].elementsEqual(0..<8))
        #expect(sink.waitedFor == Array(1...8))
    }

    @Test func `an error that comes later is answered to its own request`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        sink.fail(2, with: .unavailable("the guest is gone"))
        sink.fail(3, with: .outOfSpace(path: "/b", offset: 0, bytes: 1))
        write(talker, 10..<14)
        sink.await(waitedFor: 4)
        sink.grant(through: 4)
        #expect(try talker.reply(cookie: 10) == 0)
        #expect(try talker.reply(cookie: 11) == 5)
        #expect(try talker.reply(cookie: 12) == 28)
        #expect(try talker.reply(cookie: 13) == 0)
        #expect(server.statistics.failures == 2)
        #expect(server.statistics.lastFailure?.hasPrefix("no room for 1 bytes") == true)
    }

    @Test func `what is answered at once does not wait for what is answered later`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        write(talker, 0..<2)
        sink.await(waitedFor: 2)
        talker.send(NBDTalker.request(0, cookie: 50, offset: 0, length: 2))
        #expect(try talker.reply(cookie: 50) == 0)
        #expect(try talker.receive(2) == [0, 1])
        talker.send(NBDTalker.request(9, cookie: 51))
        #expect(try talker.reply(cookie: 51) == 22)
        #expect(talker.isSilent)
        sink.grant(through: 2)
        for cookie in UInt64(0)..<2 { #expect(try talker.reply(cookie: cookie) == 0) }
    }

    @Test func `zeros and flushes wait as writes do`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        // Nothing was written yet.
        talker.send(NBDTalker.request(3, cookie: 1))
        #expect(try talker.reply(cookie: 1) == 0)
        talker.send(NBDTalker.request(6, cookie: 2, offset: 10, length: 5))
        talker.send(NBDTalker.request(4, cookie: 3, offset: 20, length: 5))
        talker.send(NBDTalker.request(3, cookie: 4))
        sink.await(waitedFor: 3)
        #expect(talker.isSilent)
        sink.grant(through: 1)
        #expect(try talker.reply(cookie: 2) == 0)
        #expect(talker.isSilent)
        sink.grant(through: 2)
        #expect(try talker.reply(cookie: 3) == 0)
        #expect(try talker.reply(cookie: 4) == 0)
    }

    /// 64, and one for which there is no place.
    @Test func `of a client that waits for nothing, so much is taken in and no more`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        write(talker, 0..<200)
        sink.await(given: 65)
        #expect(sink.given == 65 && talker.isSilent)
        sink.grantAll()
        // Those that wait no more may overtake those that did.
        let replies = try (0..<200).map { _ in try talker.anyReply() }
        #expect(Set(replies.map(\.cookie)) == Set(0..<200) && replies.allSatisfy { $0.failure == 0 })
        #expect(sink.waitedFor == Array(1...200))
    }

    @Test func `each connection waits by itself`() throws {
        defer { stop() }
        let (first, second) = (try NBDTalker(server), try NBDTalker(server))
        try first.open()
        try second.open()
        write(first, 0..<1)
        sink.await(waitedFor: 1)
        write(second, 1..<2)
        sink.await(waitedFor: 2)
        sink.grant(through: 1)
        #expect(try first.reply(cookie: 0) == 0)
        #expect(second.isSilent)
        sink.grant(through: 2)
        #expect(try second.reply(cookie: 1) == 0)
    }

    @Test func `a client that takes its leave is answered first`() throws {
        defer { stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        write(talker, 0..<3)
        talker.send(NBDTalker.request(2))
        sink.await(waitedFor: 3)
        #expect(talker.isSilent)
        sink.grant(through: 3)
        for cookie in UInt64(0)..<3 { #expect(try talker.reply(cookie: cookie) == 0) }
        #expect(try talker.receiveAll() == [])
    }

    @Test func `stop waits until the sink is asked nothing more, whether the client is there or not`() throws {
        let talker = try NBDTalker(server)
        try talker.open()
        write(talker, 0..<3)
        do {
            let gone = try NBDTalker(server)
            try gone.open()
            write(gone, 3..<6)
            sink.await(waitedFor: 6)
        }
        stop()
        #expect(Set(sink.waitedFor) == Set(1...6) && sink.waitedFor.count == 6)
        #expect(server.statistics.connections == 0)
    }

    // MARK: - QEMU's client

    private func listen(_ directory: TemporaryDirectory) throws -> String {
        try server.listen(at: directory.file("nbd"))
        return "nbd+unix:///disk?socket=\(directory.file("nbd"))"
    }

    /// If one were answered before the next was read, none ever would be.
    @Test func `qemu-io's eight writes in flight are granted together`() throws {
        defer { stop() }
        let directory = try TemporaryDirectory()
        let address = try listen(directory)
        sink.grant(inBatchesOf: 8)
        let writes = (1...8).flatMap { ["-c", "aio_write -P \($0) \($0 * 65536) 64k"] }
        let result = try run(["qemu-io", "-f", "raw", "-t", "none"] + writes + ["-c", "aio_flush", address])
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.matches(of: #/wrote 65536\/65536 bytes/#).count == 8, "\(result.output)")
        for index in 1...8 { #expect(sink.bytes[index * 65536] == UInt8(index)) }
        #expect(server.statistics.failures == 0)
    }

    @Test func `qemu-io hears of the write that failed later`() throws {
        defer { stop() }
        let directory = try TemporaryDirectory()
        let address = try listen(directory)
        sink.grantAll()
        sink.fail(2, with: .unavailable("the guest is gone"))
        let result = try run([
            "qemu-io", "-f", "raw", "-t", "none", "-c", "write 0 512", "-c", "write 512 512", "-c", "write 1024 512",
            address,
        ])
        let said = result.output + result.errors
        #expect(said.matches(of: #/wrote 512\/512 bytes/#).count == 2 && said.contains("Input/output error"), "\(said)")
    }

    /// Reads of megabytes are answered by one thread, and writes by the other.
    @Test func `qemu-img copies in with sixteen requests at once, and what it reads back is the same`() throws {
        defer { stop() }
        let directory = try TemporaryDirectory()
        let address = try listen(directory)
        sink.grant(inBatchesOf: 1)
        var numbers = SeededGenerator(seed: 31)
        var bytes = [UInt8](repeating: 0, count: Self.size)
        bytes.replaceSubrange(70_000..<7_000_000, with: numbers.bytes(6_930_000))
        let image = try directory.write("image", bytes)
        try succeed("qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", image, address)
        #expect(firstDifference(sink.bytes, bytes) == nil)
        try succeed("qemu-img", "compare", "-f", "raw", "-F", "raw", image, address)
        let writes = ["-c", "aio_write -P 7 0 1M", "-c", "aio_read 0 1M", "-c", "aio_write -P 8 1M 1M"]
        let mixed = try run(
            ["qemu-io", "-f", "raw", "-t", "none"] + writes + ["-c", "aio_read 2M 4M", "-c", "aio_flush", address])
        #expect(mixed.status == 0, "\(mixed.errors)")
        #expect(sink.bytes[0] == 7 && sink.bytes[1 << 20] == 8)
        #expect(server.statistics.failures == 0 && server.statistics.broken == 0)
    }
}
