import Foundation
import LinuxSystem
import Storage
import Testing

@Suite(.timeLimit(.minutes(1)))
struct NBDServerTests {
    static let size = 1 << 20
    let sink = MemorySink(size: size)
    let server: NBDServer

    init() {
        server = NBDServer(.init(name: "disk", disk: 3, size: UInt64(Self.size)), threadName: "nbd-test", sink: sink)
    }

    // MARK: - Handshake

    @Test func `GO describes the export and leads to requests`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        #expect(try talker.receive(18) == NBDTalker.greeting)
        talker.send(NBDTalker.big(UInt32(3)) + NBDTalker.go("disk", information: [1, 3]))
        let export = try talker.optionReply()
        // Flush, FUA, trim, write-zeroes, several connections, cache.
        let flags: UInt16 = 1 | 4 | 8 | 32 | 64 | 256 | 1024
        #expect(
            export
                == .init(
                    option: 7, type: 3, data: [0, 0] + NBDTalker.big(UInt64(Self.size)) + NBDTalker.big(flags)))
        #expect(try talker.optionReply() == .init(option: 7, type: 3, data: [0, 1] + Array("disk".utf8)))
        let sizes = NBDTalker.big(UInt32(1)) + NBDTalker.big(UInt32(4096)) + NBDTalker.big(UInt32(32 << 20))
        #expect(try talker.optionReply() == .init(option: 7, type: 3, data: [0, 3] + sizes))
        #expect(try talker.optionReply() == .init(option: 7, type: 1, data: []))
        talker.send(NBDTalker.request(3))
        #expect(try talker.reply() == 0)
        #expect(sink.calls == [.flush(disk: 3)])
    }

    @Test(arguments: [(UInt32(1), 124), (3, 0)])
    func `the old export option works, with and without its padding`(clientFlags: UInt32, padding: Int) throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        _ = try talker.receive(18)
        talker.send(NBDTalker.big(clientFlags) + NBDTalker.option(1, Array("disk".utf8)))
        let answer = try talker.receive(10 + padding)
        #expect(talker.number(answer[..<8], as: UInt64.self) == UInt64(Self.size))
        talker.send(NBDTalker.request(0, offset: 5, length: 3))
        #expect(try talker.reply() == 0)
        #expect(try talker.receive(3) == [0, 0, 0])
    }

    @Test func `LIST, INFO, unknown options and names, and ABORT are answered`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        _ = try talker.receive(18)
        talker.send(NBDTalker.big(UInt32(3)) + NBDTalker.option(3))
        #expect(
            try talker.optionReply()
                == .init(option: 3, type: 2, data: NBDTalker.big(UInt32(4)) + Array("disk".utf8)))
        #expect(try talker.optionReply().type == 1)
        talker.send(NBDTalker.option(3, [1]))
        #expect(try talker.optionReply().type == 1 << 31 | 3)
        // STARTTLS and structured replies are not offered; QEMU goes on without.
        for option in [UInt32(5), 8, 10, 77] {
            talker.send(NBDTalker.option(option))
            #expect(try talker.optionReply() == .init(option: option, type: 1 << 31 | 1, data: []))
        }
        talker.send(NBDTalker.go("other"))
        #expect(try talker.optionReply().type == 1 << 31 | 6)
        talker.send(NBDTalker.go("disk", option: 6))
        #expect(try talker.optionReply().type == 3)
        #expect(try talker.optionReply().type == 3)
        #expect(try talker.optionReply() == .init(option: 6, type: 1, data: []))
        talker.send(NBDTalker.option(2))
        #expect(try talker.optionReply() == .init(option: 2, type: 1, data: []))
        #expect(try talker.receiveAll() == [])
        #expect(server.statistics.broken == 0)
    }

    @Test(arguments: [
        [], [0, 0, 0, 0], [0, 0, 0, 4] + Array("disk".utf8), [0xff, 0xff, 0xff, 0xff, 0, 0],
        [0, 0, 0, 4] + Array("disk".utf8) + [0, 2, 0, 1], [0, 0, 0, 4] + Array("disk".utf8) + [0, 0, 9],
    ])
    func `a GO whose lengths do not add up is refused and the conversation goes on`(data: [UInt8]) throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        _ = try talker.receive(18)
        talker.send(NBDTalker.big(UInt32(3)) + NBDTalker.option(7, data))
        #expect(try talker.optionReply() == .init(option: 7, type: 1 << 31 | 3, data: []))
        talker.send(NBDTalker.go("disk"))
        #expect(try talker.optionReply().type == 3)
    }

    @Test func `a client that breaks the handshake is hung up on`() throws {
        defer { server.stop() }
        let openings: [[UInt8]] = [
            NBDTalker.big(UInt32(0x8000_0003)),
            NBDTalker.big(UInt32(0)),
            NBDTalker.big(UInt32(3)) + Array("WHATEVER".utf8) + [UInt8](repeating: 0, count: 8),
            NBDTalker.big(UInt32(3)) + Array("IHAVEOPT".utf8) + NBDTalker.big(UInt32(7)) + NBDTalker.big(UInt32.max),
            NBDTalker.big(UInt32(3)) + (0..<65).flatMap { _ in NBDTalker.option(77) },
        ]
        for opening in openings {
            let talker = try NBDTalker(server)
            _ = try talker.receive(18)
            talker.send(opening)
            _ = try talker.receiveAll()
        }
        server.stop()
        #expect(server.statistics.broken == openings.count)
        #expect(sink.calls == [])
    }

    // MARK: - Requests

    @Test func `data and flags reach the sink, and come back`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        talker.send(NBDTalker.request(1, flags: 1, cookie: 1, offset: 10, length: 4) + [1, 2, 3, 4])
        #expect(try talker.reply(cookie: 1) == 0)
        talker.send(NBDTalker.request(6, flags: 2, cookie: 2, offset: 11, length: 1))
        #expect(try talker.reply(cookie: 2) == 0)
        talker.send(NBDTalker.request(6, flags: 1, cookie: 3, offset: 100, length: 1))
        #expect(try talker.reply(cookie: 3) == 0)
        talker.send(NBDTalker.request(4, cookie: 4, offset: 200, length: 5))
        #expect(try talker.reply(cookie: 4) == 0)
        talker.send(NBDTalker.request(5, cookie: 5, offset: 0, length: 4096))
        #expect(try talker.reply(cookie: 5) == 0)
        talker.send(NBDTalker.request(0, cookie: 6, offset: 9, length: 6))
        #expect(try talker.reply(cookie: 6) == 0)
        #expect(try talker.receive(6) == [0, 1, 0, 3, 4, 0])
        talker.send(NBDTalker.request(2))
        #expect(try talker.receiveAll() == [])
        #expect(
            sink.calls == [
                .write(disk: 3, offset: 10, length: 4, fua: true),
                .zero(disk: 3, offset: 11, length: 1, mayUnmap: false, fua: false),
                .zero(disk: 3, offset: 100, length: 1, mayUnmap: true, fua: true),
                .zero(disk: 3, offset: 200, length: 5, mayUnmap: true, fua: false),
                .read(disk: 3, offset: 9, length: 6),
            ])
    }

    @Test func `many requests sent at once are answered in order`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        var sent: [UInt8] = []
        for index in 0..<500 {
            sent += NBDTalker.request(1, cookie: UInt64(index), offset: UInt64(index * 1000), length: 1000)
            sent += [UInt8](repeating: UInt8(index & 0xff), count: 1000)
        }
        // From a second thread, as neither side's socket buffer takes all of it.
        let done = Thread.start { [sent] in talker.send(sent) }
        for index in 0..<500 { #expect(try talker.reply(cookie: UInt64(index)) == 0) }
        done.wait()
        #expect(sink.bytes[..<500_000].elementsEqual((0..<500_000).map { UInt8($0 / 1000 & 0xff) }))
    }

    struct BadRequest: Sendable {
        var type: UInt16
        var flags: UInt16
        var offset: UInt64
        var length: UInt32
        var expected: UInt32
    }

    @Test(arguments: [
        BadRequest(type: 0, flags: 0, offset: 1 << 20, length: 1, expected: 22),
        BadRequest(type: 0, flags: 0, offset: (1 << 20) - 1, length: 2, expected: 22),
        BadRequest(type: 0, flags: 0, offset: UInt64.max, length: 1, expected: 22),
        BadRequest(type: 0, flags: 0, offset: UInt64.max - 1, length: 4, expected: 22),
        BadRequest(type: 0, flags: 0, offset: 0, length: (32 << 20) + 1, expected: 22),
        BadRequest(type: 0, flags: 0, offset: 0, length: UInt32.max, expected: 22),
        BadRequest(type: 0, flags: 4, offset: 0, length: 1, expected: 22),
        BadRequest(type: 1, flags: 0, offset: 1 << 20, length: 1, expected: 28),
        BadRequest(type: 1, flags: 0, offset: UInt64.max, length: 2, expected: 28),
        BadRequest(type: 1, flags: 2, offset: 0, length: 2, expected: 22),
        BadRequest(type: 3, flags: 8, offset: 0, length: 0, expected: 22),
        BadRequest(type: 4, flags: 2, offset: 0, length: 1, expected: 22),
        BadRequest(type: 4, flags: 0, offset: (1 << 20) - 1, length: 2, expected: 28),
        BadRequest(type: 5, flags: 0, offset: 1 << 20, length: 1, expected: 22),
        BadRequest(type: 6, flags: 16, offset: 0, length: 1, expected: 22),
        BadRequest(type: 6, flags: 0, offset: UInt64.max, length: UInt32.max, expected: 28),
        BadRequest(type: 7, flags: 0, offset: 0, length: 1, expected: 22),
        BadRequest(type: 0xffff, flags: 0xffff, offset: 0, length: 0, expected: 22),
    ])
    func `a request outside of what is offered gets an error and changes nothing`(bad: BadRequest) throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        talker.send(NBDTalker.request(bad.type, flags: bad.flags, offset: bad.offset, length: bad.length))
        if bad.type == 1 { talker.send([UInt8](repeating: 1, count: Int(bad.length))) }
        #expect(try talker.reply() == bad.expected)
        // The conversation is still in step.
        talker.send(NBDTalker.request(3, cookie: 99))
        #expect(try talker.reply(cookie: 99) == 0)
        #expect(sink.calls == [.flush(disk: 3)])
        #expect(server.statistics.failures == 1)
        #expect(server.statistics.lastFailure?.contains("“disk”") == true)
    }

    @Test func `empty requests succeed without troubling the sink`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        for type in [UInt16(0), 1, 4, 5, 6] {
            talker.send(NBDTalker.request(type, offset: UInt64(Self.size), length: 0))
            #expect(try talker.reply() == 0)
        }
        #expect(sink.calls == [])
    }

    @Test func `a write longer than the limit ends the conversation before it is read`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        talker.send(NBDTalker.request(1, length: (32 << 20) + 1))
        #expect(try talker.receiveAll() == [])
        server.stop()
        #expect(server.statistics.broken == 1)
        #expect(server.statistics.lastFailure == "a write of 33554433 bytes is longer than the limit of 33554432")
    }

    @Test func `a request without its magic number, or a write cut short, ends the conversation`() throws {
        defer { server.stop() }
        let first = try NBDTalker(server)
        try first.open()
        first.send(NBDTalker.request(3, magic: 0))
        #expect(try first.receiveAll() == [])
        for length in [100, 300 << 10] {
            let second = try NBDTalker(server)
            try second.open()
            second.send(NBDTalker.request(1, length: UInt32(length)) + [UInt8](repeating: 1, count: 60))
            second.finishSending()
            #expect(try second.receiveAll() == [])
        }
        server.stop()
        #expect(server.statistics.broken == 3)
        #expect(sink.calls == [])
    }

    @Test func `the sink's errors become NBD's`() throws {
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        sink.fail(with: .outOfSpace(path: "/b", offset: 0, bytes: 1))
        talker.send(NBDTalker.request(1, length: 1) + [1])
        #expect(try talker.reply() == 28)
        sink.fail(with: .unavailable("the session is over"))
        for type in [UInt16(0), 3, 4, 6] {
            talker.send(NBDTalker.request(type, length: type == 3 ? 0 : 1))
            #expect(try talker.reply() == 5)
        }
        #expect(server.statistics.lastFailure == "the session is over")
        sink.fail(with: nil)
        talker.send(NBDTalker.request(0, length: 1))
        #expect(try talker.reply() == 0)
        #expect(try talker.receive(1) == [0])
    }

    // MARK: - Connections

    @Test func `a write is answered only after the sink has it`() throws {
        final class Slow: DiskSink {
            let entered = DispatchSemaphore(value: 0)
            let go = DispatchSemaphore(value: 0)
            func write(
                disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
            ) throws(StorageError) -> DiskTicket {
                entered.signal()
                go.wait()
                return .done
            }
            func zero(
                disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
            ) throws(StorageError) -> DiskTicket { .done }
            func flush(disk: UInt16) throws(StorageError) -> DiskTicket { .done }
            func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {}
            func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
                replies.settle(cookie, nil)
            }
        }
        let slow = Slow()
        let server = NBDServer(.init(name: "disk", disk: 0, size: 4096), threadName: "nbd-slow", sink: slow)
        defer { server.stop() }
        let (blocked, other) = (try NBDTalker(server), try NBDTalker(server))
        try blocked.open()
        try other.open()
        blocked.send(NBDTalker.request(1, length: 1) + [1])
        slow.entered.wait()
        #expect(blocked.isSilent)
        // Another connection is not held up by it.
        other.send(NBDTalker.request(3))
        #expect(try other.reply() == 0)
        #expect(blocked.isSilent)
        slow.go.signal()
        #expect(try blocked.reply() == 0)
    }

    @Test func `stop hangs up on everybody and refuses new ones`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("nbd")
        try server.listen(at: path)
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        let talkers = try (0..<4).map { _ in try NBDTalker(server) }
        for talker in talkers { try talker.open() }
        #expect(server.statistics.connections == 4)
        server.stop()
        for talker in talkers { #expect(try talker.receiveAll() == []) }
        #expect(server.statistics.connections == 0)
        #expect(!FileManager.default.fileExists(atPath: path))
        #expect(throws: StorageError.self) { try NBDTalker(server) }
        #expect(throws: StorageError.self) { try server.listen(at: path) }
        server.stop()
    }

    @Test func `a socket file that nobody listens at is replaced, a live one is not`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("nbd")
        do { _ = try LocalSocket.listen(at: path) }
        #expect(FileManager.default.fileExists(atPath: path))
        try server.listen(at: path)
        defer { server.stop() }
        let second = NBDServer(.init(name: "disk", disk: 0, size: 1), threadName: "nbd-second", sink: sink)
        #expect(throws: StorageError.self) { try second.listen(at: path) }
        #expect(FileManager.default.fileExists(atPath: path))
    }

    @Test func `the seventeenth client is hung up on, and a place that became free is given again`() throws {
        defer { server.stop() }
        var talkers = try (0..<NBDServer.connectionsMax).map { _ in try NBDTalker(server) }
        for talker in talkers { try talker.open() }
        #expect(throws: StorageError.self) { try NBDTalker(server) }
        talkers.last!.send(NBDTalker.request(2))
        #expect(try talkers.last!.receiveAll() == [])
        talkers.removeLast()
        let deadline = Date().addingTimeInterval(20)
        while server.statistics.connections == NBDServer.connectionsMax, Date() < deadline { sched_yield() }
        try NBDTalker(server).open()
    }
}

extension NBDTalker {
    /// True when nothing has come that was not read yet.
    var isSilent: Bool { !hasInput }
}

extension Thread {
    /// Runs `body` on a new thread; wait on the result for its end.
    static func start(_ body: @escaping () -> Void) -> DispatchSemaphore {
        let done = DispatchSemaphore(value: 0)
        nonisolated(unsafe) let body = body
        Thread.detachNewThread {
            body()
            done.signal()
        }
        return done
    }
}
