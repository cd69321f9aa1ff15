import Disk
import Fakes
import Hypervisor
import LinuxSystem
import Model
import Shipping
import Storage
import Synchronization
import Testing
import Transport
import Wire

/// Writes that are done only when the standby has taken them.
@Suite(.timeLimit(.minutes(1))) struct WriteAnswersTests {
    /// Two disks of one session whose first copy is over.
    private struct Session {
        let writes = WriteAnswers()
        let link: Link
        let sender: FrameSender
        let disks: [DiskShipment]

        init(_ link: Link, loses: (@Sendable (Int) -> Bool)? = nil) {
            self.link = link
            sender = FrameSender(link: link)
            disks = [0, 1].map { [sender, writes] in
                DiskShipment(
                    disk: OfferedDisk(index: $0, id: "disk\($0)", size: 1 << 30), answers: DiskAnswers(),
                    sender: sender, writes: writes, loses: loses)
            }
            for disk in disks { disk.endFirstCopy() }
        }

        func begin() {
            sender.goThrough(in: Epoch(2))
            writes.begin(with: sender)
        }

        func write(_ disk: Int = 0, _ count: Int = 512) throws(StorageError) -> DiskTicket {
            let data = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
            data.initializeMemory(as: UInt8.self, repeating: 1)
            defer { data.deallocate() }
            return try disks[disk].write(disk: UInt16(disk), offset: 0, data: UnsafeRawBufferPointer(data), fua: false)
        }

        func zero(_ disk: Int = 0) throws(StorageError) -> DiskTicket {
            try disks[disk].zero(disk: UInt16(disk), offset: 0, length: 1 << 20, mayUnmap: false, fua: false)
        }

        func loseLink() { link.close(LinkError(peer: link.peerName, .lost("by the test"))) }
    }

    /// Of one request.
    private final class Waiter: LaterReplies {
        private let outcome = Monitor<Result<Void, StorageError>?>(nil)

        init(_ ticket: DiskTicket, of disk: DiskShipment) { disk.answer(ticket, 7, to: self) }

        func settle(_ cookie: UInt64, _ failure: StorageError?) {
            outcome.change { outcome in
                #expect(cookie == 7 && outcome == nil)
                outcome = failure.map { .failure($0) } ?? .success(())
            }
        }

        var isOver: Bool { outcome.look { $0 != nil } }
        /// Waits for its end.
        func end() throws(StorageError) { try outcome.wait { $0 }.get() }
    }

    @Test func beforeTheFirstCutNothingWaits() async throws {
        try await FakePeer.with { (link, peer) throws in
            let session = Session(link)
            #expect(try session.write() == .done)
            #expect(try session.zero() == .done)
            #expect(try session.disks[0].flush(disk: 0) == .done)
            #expect(!session.writes.take(1), "nothing is answered that was not asked")
            #expect(peer.await(frames: 2).map(\.header.epoch) == [0, 0])
            session.begin()
            #expect(try session.disks[0].flush(disk: 0) == .done, "what came before is the checkpoint's")
            #expect(session.writes.waiting == 0)
        }
    }

    @Test func aWriteIsDoneWhenItsLastPieceIsTaken() async throws {
        try await FakePeer.with { link, peer in
            let session = Session(link)
            session.begin()
            let ticket = try session.write(0, 5 << 19)
            #expect(ticket.number == 3)
            #expect(peer.await(frames: 3).map(\.header.epoch) == [2, 2, 2])
            let waiter = Waiter(ticket, of: session.disks[0])
            #expect(session.writes.take(1) && session.writes.take(2))
            #expect(!waiter.isOver && session.writes.waiting == 1)
            #expect(session.writes.take(3))
            try waiter.end()
            #expect(session.writes.waiting == 0)
        }
    }

    @Test func theCountIsOneForAllDisks() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            #expect(try session.write(0).number == 1)
            #expect(try session.zero(1).number == 2)
            #expect(try session.write(1).number == 3)
            #expect(try session.write(0).number == 4)
            #expect(session.writes.waiting == 4)
            #expect(session.writes.take(3))
            for ticket in 1...3 { try Waiter(DiskTicket(UInt64(ticket)), of: session.disks[ticket % 2]).end() }
            let last = Waiter(DiskTicket(4), of: session.disks[0])
            #expect(!last.isOver && session.writes.waiting == 1)
            #expect(session.writes.take(4))
            try last.end()
        }
    }

    @Test func aFlushWaitsForWhatWasQueuedOnAnyDisk() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            _ = try session.write(0)
            _ = try session.write(1)
            let ticket = try session.disks[0].flush(disk: 0)
            #expect(ticket.number == 2)
            let waiter = Waiter(ticket, of: session.disks[0])
            #expect(session.writes.take(1) && !waiter.isOver)
            #expect(session.writes.take(2))
            try waiter.end()
            #expect(try session.disks[1].flush(disk: 1) == .done)
        }
    }

    @Test func anAnswerThatCannotBeIsRefused() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            #expect(!session.writes.take(0) && !session.writes.take(1))
            session.begin()
            #expect(!session.writes.take(1))
            _ = try session.write()
            _ = try session.write()
            #expect(!session.writes.take(3))
            #expect(session.writes.take(2) && session.writes.take(2))
            #expect(!session.writes.take(1))
            #expect(!session.writes.take(.max))
        }
    }

    /// The guest's write must not be done in this copy alone before that is decided.
    @Test func aWriteThatCannotBeSentWaitsUntilItIsDecided() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            let sent = try session.write()
            session.loseLink()
            let (lost, zeroed) = (try session.write(), try session.zero(1))
            #expect(lost != .done && zeroed != .done)
            let waiters = [
                Waiter(sent, of: session.disks[0]), Waiter(lost, of: session.disks[0]),
                Waiter(zeroed, of: session.disks[1]),
            ]
            // An answer that was under way counts, and for nothing but what was sent.
            #expect(session.writes.take(1))
            try waiters[0].end()
            #expect(!waiters[1].isOver && !waiters[2].isOver && session.writes.waiting == 2)
            session.writes.release()
            for waiter in waiters.dropFirst() { try waiter.end() }
            #expect(session.writes.waiting == 0)
            #expect(try session.write() == .done, "the guest goes on alone")
            #expect(try session.disks[0].flush(disk: 0) == .done)
        }
    }

    @Test func writesOfAGuestThatIsGoneFail() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            let waiter = Waiter(try session.write(), of: session.disks[0])
            session.writes.close()
            #expect(throws: StorageError.self) { try waiter.end() }
            let later = try session.write()
            #expect(throws: StorageError.self) { try Waiter(later, of: session.disks[0]).end() }
            session.writes.release()
            let last = try session.write()
            #expect(throws: StorageError.self, "nothing makes up for it") {
                try Waiter(last, of: session.disks[0]).end()
            }
            #expect(session.writes.waiting == 0)
        }
    }

    @Test func aGuestThatWasReleasedStaysSo() async throws {
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            let ticket = try session.write()
            session.writes.release()
            session.writes.close()
            try Waiter(ticket, of: session.disks[0]).end()
            #expect(try session.write() == .done)
        }
    }

    /// For the test bed only: what is lost must be found out by what compares the disks, and not by a guest that hangs.
    @Test func aWriteThatIsLostCountsAsTaken() async throws {
        try await FakePeer.with { (link, _) throws in
            let session = Session(link, loses: { $0 % 2 == 0 })
            session.begin()
            #expect(try session.write().number == 1)
            #expect(try session.write() == .done)
            #expect(session.sender.throughFrames == 1)
        }
    }

    /// Eight threads write, one answers: none waits for ever, and none is told before its frames were answered.
    @Test func manyWritesAreDoneInTheOrderOfTheLink() async throws {
        let (threads, each) = (8, 200)
        try await FakePeer.with { link, _ in
            let session = Session(link)
            session.begin()
            let taken = Atomic<UInt64>(0)
            let early = Atomic<Int>(0)
            let over = Monitor(0)
            for number in 0..<threads {
                _ = try NamedThread.start("writer-\(number)") { [disk = session.disks[number % 2]] in
                    for _ in 0..<each {
                        let ticket = try? disk.zero(
                            disk: UInt16(number % 2), offset: 0, length: 512, mayUnmap: true, fua: false)
                        guard let ticket else { break }
                        guard ticket == .done || (try? Waiter(ticket, of: disk).end()) != nil else { break }
                        if ticket.number > taken.load(ordering: .acquiring) { early.add(1, ordering: .relaxed) }
                    }
                    over.change { $0 += 1 }
                }
            }
            var count: UInt64 = 0
            while count < UInt64(threads * each) {
                let sent = session.sender.throughFrames
                guard sent > count else {
                    MonotonicClock.sleep(until: MonotonicClock.now() + 20_000)
                    continue
                }
                count += 1
                taken.store(count, ordering: .releasing)
                #expect(session.writes.take(count))
            }
            over.await { $0 == threads }
            #expect(early.load(ordering: .relaxed) == 0 && session.writes.waiting == 0)
        }
    }
}
