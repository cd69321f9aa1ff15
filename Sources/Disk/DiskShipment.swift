import Glibc
import LinuxSystem
import Model
import Shipping
import Storage
import Synchronization
import Transport
import Wire

/// Where the NBD server of one disk puts the guest's writes: into frames of the epoch that runs now.
///
/// Called on the server's threads. A call returns when the frame is queued on the link, so a full link makes the guest's
/// writes wait. When the link is lost, writes are taken and dropped: no epoch of this session is acknowledged any more,
/// the next session compares the disks, and a mirror that failed meanwhile would end protection while it is still being
/// decided who goes on.
///
/// With `writes` begun, a write is done only when the standby has taken its frames. One that is dropped waits as well,
/// until it is decided who goes on: no guest's write is done in one copy before the register says that this one counts
/// alone.
package final class DiskShipment: DiskSink {
    /// Writes are cut into pieces of this size, in bytes.
    private static let pieceMax = 1 << 20
    private static let readTimeout: UInt64 = 30_000_000_000
    /// Of 512 MiB of image: an answer within some seconds, in which the standby also does other work.
    private static let digestsPerQuestion = 8192
    /// For one question, in nanoseconds.
    private static let digestTimeout: UInt64 = 60_000_000_000

    private struct State {
        var bytes: UInt64 = 0
        var writes = 0
        var nextRead: UInt64 = 0
    }

    private let disk: OfferedDisk
    private let answers: DiskAnswers
    /// Whether a write is to be lost, given how many there were: for the test bed only.
    private let loses: (@Sendable (Int) -> Bool)?
    private let sender: FrameSender
    private let writes: WriteAnswers
    private let state = Mutex(State())
    /// A flush reaches the standby's storage: of a disk that is served.
    private let flushesThere = Atomic(false)
    /// What the standby's image holds already; nil once the first copy is over.
    private let filter: Mutex<ChangedBlockFilter?>

    package init(
        disk: OfferedDisk, answers: DiskAnswers, sender: FrameSender, writes: WriteAnswers,
        loses: (@Sendable (Int) -> Bool)?
    ) {
        self.disk = disk
        self.answers = answers
        self.loses = loses
        self.sender = sender
        self.writes = writes
        filter = Mutex(ChangedBlockFilter(size: disk.size))
    }

    /// Learns what the standby's image holds, so that equal parts need not be sent. Called before the mirror starts, by
    /// the session's thread; waits for the answers, and calls `look` meanwhile, which ends it with its result. Without them
    /// everything is sent.
    func askForDigests(_ look: () throws(SessionError) -> String?) throws(SessionError) -> String? {
        let chunks = ChunkDigest.chunks(diskSize: disk.size)
        var first: UInt64 = 0
        while first < chunks {
            let count = min(UInt64(Self.digestsPerQuestion), chunks - first)
            guard let question = filter.withLock({ $0?.expect(firstChunk: first, count: Int(count)) }) else {
                return nil
            }
            let key = DiskAnswers.DigestQuestion(disk: disk.index, first: first)
            answers.digests.expect(key)
            sender.link.send(
                controlFrame(
                    DiskDigests(
                        disk: disk.index, chunkSize: UInt32(ChunkDigest.chunkSize), first: first, count: UInt32(count)))
            )
            let deadline = MonotonicClock.now() + Self.digestTimeout
            var answer: [UInt8]?
            while answer == nil, MonotonicClock.now() < deadline {
                answer = answers.digests.take(key)
                if answer == nil, let ended = try look() { return ended }
            }
            guard let digests = answer else { return nil }
            let learnt = digests.withUnsafeBytes { bytes in
                filter.withLock { $0?.learn(question, digests: bytes) ?? false }
            }
            guard learnt else { return nil }
            first += count
        }
        return nil
    }

    /// From here on a flush is done when the standby's storage has what was written, or no more.
    func flushThere(_ isOn: Bool) { flushesThere.store(isOn, ordering: .relaxed) }

    /// From here on every write is sent.
    package func endFirstCopy() { filter.withLock { $0 = nil } }

    /// Bytes shipped since the last call.
    func takeBytes() -> UInt64 {
        state.withLock { state in
            defer { state.bytes = 0 }
            return state.bytes
        }
    }

    package func write(
        disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
    ) throws(StorageError) -> DiskTicket {
        let number = state.withLock { state in
            state.bytes += UInt64(data.count)
            state.writes += 1
            return state.writes
        }
        if let loses, loses(number) { return .done }
        let changed = filter.withLock { filter -> [Range<Int>] in
            var ranges: [Range<Int>] = []
            guard filter != nil else { return [0..<data.count] }
            filter?.filter(offset: offset, data: data) { ranges.append($0) }
            return ranges
        }
        var last: UInt64? = 0
        for range in changed {
            last = send(disk, offset + UInt64(range.lowerBound), UnsafeRawBufferPointer(rebasing: data[range]))
        }
        if fua, flushesThere.load(ordering: .relaxed) { return try flush(disk: disk) }
        return ticket(for: last)
    }

    /// Returns what `FrameSender.sendDisk` said of the last piece; nil when the link is lost.
    private func send(_ disk: UInt16, _ offset: UInt64, _ data: UnsafeRawBufferPointer) -> UInt64? {
        var head = ByteSink(capacity: DiskWrite.headSize)
        var start = 0
        var last: UInt64?
        while start < data.count {
            let end = min(start + Self.pieceMax, data.count)
            let piece = UnsafeRawBufferPointer(rebasing: data[start..<end])
            head.reset()
            DiskWrite(disk: disk, offset: offset + UInt64(start), data: piece).writeHead(into: &head)
            last = try? sender.sendDisk(.diskWrite, head: head.bytes, payload: piece)
            if last == nil { return nil }
            start = end
        }
        return last
    }

    package func zero(
        disk: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
    ) throws(StorageError) -> DiskTicket {
        let changed = filter.withLock { filter -> [Range<UInt64>] in
            var ranges: [Range<UInt64>] = []
            guard filter != nil else { return [offset..<offset + length] }
            filter?.filterZero(offset: offset, length: length) { ranges.append($0) }
            return ranges
        }
        var body = ByteSink(capacity: 64)
        var last: UInt64? = 0
        for range in changed {
            body.reset()
            DiskZero(disk: disk, mayUnmap: mayUnmap, offset: range.lowerBound, length: UInt64(range.count))
                .write(into: &body)
            last = try? sender.sendDisk(.diskZero, head: body.bytes)
        }
        return ticket(for: last)
    }

    /// Where no frame was a through frame nothing is waited for: epochs are asked nothing more than before.
    private func ticket(for last: UInt64?) -> DiskTicket { last == 0 ? .done : writes.ticket(for: last) }

    /// The epoch's commit is what makes writes safe, or the standby's answer: only that of a served disk goes there.
    package func flush(disk: UInt16) throws(StorageError) -> DiskTicket {
        guard flushesThere.load(ordering: .relaxed) else { return writes.ticketForAll() }
        return ticket(for: try? sender.flushDisk(disk))
    }

    package func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
        writes.answer(ticket, cookie, to: replies)
    }

    /// Asks the standby, which merges what is staged over its image.
    package func read(disk: UInt16, offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        var start = 0
        while start < target.count {
            let end = min(start + Self.pieceMax, target.count)
            let piece = UnsafeMutableRawBufferPointer(rebasing: target[start..<end])
            try readPiece(disk, offset + UInt64(start), piece)
            start = end
        }
    }

    private func readPiece(
        _ disk: UInt16, _ offset: UInt64, _ target: UnsafeMutableRawBufferPointer
    ) throws(StorageError) {
        let id = state.withLock { state in
            state.nextRead += 1
            return UInt64(disk) << 48 | state.nextRead
        }
        answers.reads.expect(id)
        sender.link.send(
            controlFrame(DiskRead(id: id, disk: disk, offset: offset, length: UInt32(target.count))))
        switch answers.reads.wait(for: id, nanoseconds: Self.readTimeout) {
        case .answered(let answer):
            guard answer.status == 0, answer.data.count == target.count else {
                throw .failed(
                    path: self.disk.id, operation: "read at the standby", reason: "status \(answer.status)")
            }
            target.copyBytes(from: answer.data)
        case .closed(let reason):
            throw .unavailable("the standby's copy of disk \(self.disk.id) cannot be read: \(reason)")
        case .timedOut:
            throw .failed(path: self.disk.id, operation: "read at the standby", reason: "no answer within 30 s")
        }
    }
}
