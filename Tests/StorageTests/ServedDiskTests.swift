import Foundation
import LinuxSystem
import Storage
import Testing

/// A served disk over real sockets: a file here, and an agent's NBD server that keeps the other copy in memory.
@Suite(.timeLimit(.minutes(1))) struct ServedDiskTests {
    private static let size = 1 << 20
    private let directory: TemporaryDirectory
    private let sink = MemorySink(size: Self.size)
    private let agent: NBDServer
    private let disk: ServedDisk
    private let server: NBDServer
    private let path: String

    init() throws {
        directory = try TemporaryDirectory()
        path = "\(directory.path)/disk"
        try Data(count: Self.size).write(to: URL(fileURLWithPath: path))
        agent = NBDServer(.init(name: "", disk: 0, size: UInt64(Self.size)), threadName: "nbd-agent", sink: sink)
        disk = try ServedDisk(path: path, size: UInt64(Self.size), bound: 500) { _ in }
        server = disk.server()
        let pair = try DescriptorPair.sockets()
        try agent.serve(pair.first.duplicate())
        try disk.pair(over: pair.second.duplicate())
    }

    private func end() {
        server.stop()
        disk.end()
        agent.stop()
    }

    private func talker() throws -> NBDTalker {
        let talker = try NBDTalker(server)
        try talker.open("")
        return talker
    }

    private func onDisk(_ range: Range<Int>) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path))[range])
    }

    private func awaitReport(_ isSo: (ServedReport) -> Bool) throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !isSo(disk.report), ContinuousClock.now < deadline { usleep(2000) }
        try #require(isSo(disk.report), "\(disk.report)")
    }

    @Test func whatIsWrittenIsInBothCopiesAndIsReadHere() throws {
        defer { end() }
        let talker = try talker()
        talker.send(NBDTalker.request(1, offset: 4096, length: 3) + [1, 2, 3])
        #expect(try talker.reply() == 0)
        #expect(try onDisk(4095..<4100) == [0, 1, 2, 3, 0])
        #expect(sink.calls.contains(.write(disk: 0, offset: 4096, length: 3, fua: false)))
        talker.send(NBDTalker.request(0, offset: 4096, length: 3))
        #expect(try talker.reply() == 0)
        #expect(try talker.receive(3) == [1, 2, 3])
        talker.send(NBDTalker.request(3))
        #expect(try talker.reply() == 0)
        #expect(!sink.calls.contains { if case .read = $0 { true } else { false } })
    }

    @Test func aDiskThatBecameShorterIsLostAndRejoins() throws {
        defer { end() }
        let talker = try talker()
        talker.send(NBDTalker.request(1, offset: 0, length: 3) + [1, 2, 3])
        #expect(try talker.reply() == 0)
        truncate(path, 8192)
        try awaitReport { $0.lost != nil }
        // Nothing is done in one copy before that is known elsewhere; reads are.
        talker.send(NBDTalker.request(1, offset: 65536, length: 1) + [9])
        usleep(50_000)
        #expect(!talker.hasInput)
        disk.note(disk.report.loss)
        #expect(try talker.reply() == 0)
        talker.send(NBDTalker.request(0, offset: 65535, length: 3))
        #expect(try talker.reply() == 0)
        #expect(try talker.receive(3) == [0, 9, 0])
        // It has another size now.
        #expect(throws: StorageError.self) { try disk.rejoin() }
        truncate(path, off_t(Self.size))
        try disk.rejoin()
        try awaitReport { $0.isWhole }
        #expect(try onDisk(0..<4) == [1, 2, 3, 0])
        #expect(try onDisk(65535..<65538) == [0, 9, 0])
        #expect(disk.report.bytesCopied == 4096, "only what differs is copied")
    }

    @Test func anotherFileIsComparedAsAWhole() throws {
        defer { end() }
        let talker = try talker()
        talker.send(NBDTalker.request(1, offset: 300_000, length: 2) + [7, 8])
        #expect(try talker.reply() == 0)
        truncate(path, 0)
        try awaitReport { $0.lost != nil }
        disk.note(disk.report.loss)
        unlink(path)
        try Data(repeating: 0xee, count: Self.size).write(to: URL(fileURLWithPath: path))
        try disk.rejoin()
        try awaitReport { $0.isWhole }
        var expected = [UInt8](repeating: 0, count: Self.size)
        expected.replaceSubrange(300_000..<300_002, with: [7, 8])
        #expect(try onDisk(0..<Self.size) == expected)
    }

    /// Lost before or after this host was alone: what waits, and what follows, fails.
    @Test(arguments: [true, false]) func aloneACopyThatIsLostIsAnErrorAndNoWaiting(before: Bool) throws {
        defer { end() }
        let talker = try talker()
        if before {
            truncate(path, 8192)
            try awaitReport { $0.lost != nil }
            talker.send(NBDTalker.request(1, offset: 65536, length: 1) + [9])
            usleep(50_000)
            #expect(!talker.hasInput, "the standby may answer for it yet")
            disk.goAlone()
        } else {
            disk.goAlone()
            truncate(path, 8192)
            try awaitReport { $0.lost != nil }
            talker.send(NBDTalker.request(1, offset: 65536, length: 1) + [9])
        }
        #expect(try talker.reply() == 5)
        talker.send(NBDTalker.request(0, cookie: 8, offset: 65536, length: 1))
        #expect(try talker.reply(cookie: 8) == 5)
        talker.send(NBDTalker.request(3))
        #expect(try talker.reply() == 5)
    }

    @Test func withoutTheAgentWritesWaitUntilThisHostIsAlone() throws {
        defer { end() }
        let talker = try talker()
        agent.stop()
        usleep(50_000)
        talker.send(NBDTalker.request(1, offset: 10, length: 1) + [5])
        usleep(50_000)
        #expect(!talker.hasInput)
        talker.send(NBDTalker.request(0, cookie: 8, offset: 0, length: 1))
        #expect(try talker.reply(cookie: 8) == 0)
        _ = try talker.receive(1)
        disk.goAlone()
        #expect(try talker.reply() == 0)
        #expect(try onDisk(10..<11) == [5])
    }
}
