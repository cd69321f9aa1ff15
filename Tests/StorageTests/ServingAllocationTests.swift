import CAllocations
import Storage
import Synchronization
import Testing

/// The guest waits for its writes: a server that serves asks for no memory.
@Suite(.timeLimit(.minutes(1)))
struct ServingAllocationTests {
    static let calls = 200
    /// What is needed once is made by then.
    static let first = 20

    /// How often a thread had asked for memory at each of its calls.
    private final class Notes: @unchecked Sendable {
        // SAFETY: each place is written once, by the one thread that notes, and read when that has ended.
        private let counts = UnsafeMutablePointer<UInt>.allocate(capacity: calls)
        private let noted = Atomic<Int>(0)

        deinit { counts.deallocate() }

        func note() { counts[noted.wrappingAdd(1, ordering: .relaxed).oldValue] = allocations_of_thread() }

        /// How often it asked between the first calls and the last.
        var asked: UInt? {
            let noted = noted.load(ordering: .acquiring)
            return noted == calls ? counts[calls - 1] - counts[first] : nil
        }
    }

    private final class CountingSink: DiskSink {
        let served = Notes()
        let waited = Notes()
        private let ticket: DiskTicket

        init(_ ticket: DiskTicket) { self.ticket = ticket }

        func write(
            disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
        ) throws(StorageError) -> DiskTicket {
            served.note()
            return ticket
        }
        func zero(
            disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
        ) throws(StorageError) -> DiskTicket { .done }
        func flush(disk: UInt16) throws(StorageError) -> DiskTicket { .done }
        func read(disk: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {}
        func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
            waited.note()
            replies.settle(cookie, nil)
        }
    }

    @Test(arguments: [false, true]) func `writes are taken and answered without an allocation`(later: Bool) throws {
        let sink = CountingSink(later ? DiskTicket(1) : .done)
        let server = NBDServer(.init(name: "disk", disk: 0, size: 1 << 20), threadName: "nbd-count", sink: sink)
        defer { server.stop() }
        let talker = try NBDTalker(server)
        try talker.open()
        for cookie in 0..<UInt64(Self.calls) {
            talker.send(NBDTalker.request(1, cookie: cookie, length: 512) + [UInt8](repeating: 1, count: 512))
            talker.send(NBDTalker.request(4, cookie: cookie, length: 512))
            talker.send(NBDTalker.request(3, cookie: cookie))
            for _ in 0..<3 { #expect(try talker.reply(cookie: cookie) == 0) }
        }
        server.stop()
        #expect(sink.served.asked == 0)
        if later { #expect(sink.waited.asked == 0) }
    }
}
