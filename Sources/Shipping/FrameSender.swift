import Crypto
import LinuxSystem
import Model
import NIOCore
import Synchronization
import Transport
import Wire

/// Puts frames on the link in one order, numbers them within their epoch, and keeps what the checkpoint's last frame
/// says about them: counts by type, and the SHA-256 over their headers, each of which holds the CRC of its body.
///
/// Used by several threads: the shipper and the disks' NBD servers. They wait while the link's window is full or the cap is
/// reached, which is how a slow link slows the guest instead of filling memory. A guest that is being stopped does not wait:
/// QEMU drains the disks first, so the writes that are under way then go past both (`isStopping`). They are as many as the
/// guest has under way at once.
///
/// At a level whose output is not held the disks' frames are through frames from the first checkpoint on: they belong to no
/// checkpoint, so they are only counted (docs/PROTOCOL.md, item 11).
package final class FrameSender: FrameTarget, Sendable {
    private struct Account {
        var sequence: UInt32 = 0
        var bytes: UInt64 = 0
        var sections = [CheckpointEnd.Section]()
        var digest = SHA256()

        mutating func count(_ type: FrameType, bytes added: UInt64) {
            sequence += 1
            bytes += added
            if let index = sections.firstIndex(where: { $0.type == type }) {
                sections[index].frames += 1
                sections[index].bytes += added
            } else {
                sections.append(CheckpointEnd.Section(type: type, frames: 1, bytes: added))
                sections.sort { $0.type.rawValue < $1.type.rawValue }
            }
        }
    }

    private struct State {
        var current = Epoch.firstCopy
        /// The disks' frames are through frames.
        var isThrough = false
        var throughFrames: UInt64 = 0
        var accounts: [(epoch: Epoch, account: Account)] = []
        var failure: LinkError?
    }

    private static let littleBytes = 256 << 10

    package let link: Link
    private let rate = Mutex(SendRate())
    /// Of memory's copy, while the disks' frames are through frames.
    private let copyPace = Mutex(CopyPace())
    private let droppingCopy = Atomic<Bool>(false)
    private let stopping = Atomic<Bool>(false)
    private let waitingDisks = Atomic<Int>(0)
    /// How long the shipper waited for the link or the cap since the last look, in nanoseconds.
    private let waited = Atomic<UInt64>(0)
    private let allocator = ByteBufferAllocator()
    private let state = Mutex(State())

    package init(link: Link) { self.link = link }

    /// The most that is sent, in megabits per second; nil is as much as the link takes.
    package func cap(megabits: Int?) { rate.withLock { $0.cap(megabits: megabits) } }

    /// Of the cap; nil without one.
    package var capBytesPerSecond: Double? { rate.withLock { $0.bytesPerSecond } }

    /// While it is true, writes of the guest's disks are queued at once.
    package var isStopping: Bool {
        get { stopping.load(ordering: .acquiring) }
        set {
            stopping.store(newValue, ordering: .releasing)
            if newValue { link.lookAgain() }
        }
    }

    /// A disk's write waits for the link or the cap.
    package var keepsDisksWaiting: Bool { waitingDisks.load(ordering: .relaxed) > 0 }

    /// While it is true, frames of memory's copy that disk writes go behind are not sent: nobody wants it any more.
    package var dropsCopy: Bool {
        get { droppingCopy.load(ordering: .acquiring) }
        set { droppingCopy.store(newValue, ordering: .releasing) }
    }

    package var copyFrameMax: Int {
        guard state.withLock(\.isThrough) else { return .max }
        let capped = capBytesPerSecond.map { Int($0 * Double(CopyPace.delayMax) / 2e9) } ?? .max
        return max(pageSize, min(capped, copyPace.withLock { Int($0.frameMax) }))
    }

    /// The standby answered a heartbeat that asked for it (`Heartbeat.ask`), by the mark that it had.
    package func answered(_ mark: UInt64) { copyPace.withLock { $0.answer(mark, now: MonotonicClock.now()) } }

    /// Waits until `count` bytes of memory's copy may go before what the guest writes meanwhile. False where nobody wants them.
    private func waitToCopy(_ count: Int) -> Bool {
        while link.isOpen, state.withLock(\.isThrough) {
            if dropsCopy { return false }
            let now = MonotonicClock.now()
            switch copyPace.withLock({ $0.next(count, queued: link.queuedBytes, now: now) }) {
            case .send: return true
            case .ask: link.send(controlFrame(Heartbeat(sent: now, echo: Heartbeat.ask)))
            case .wait: MonotonicClock.sleep(until: now + 1_000_000)
            }
        }
        return true
    }

    /// Waits until `count` bytes may be queued.
    private func waitForTurn(_ count: Int, isDisk: Bool) {
        func isPressing() -> Bool { isDisk && isStopping }
        if isDisk { waitingDisks.add(1, ordering: .relaxed) }
        defer { if isDisk { waitingDisks.subtract(1, ordering: .relaxed) } }
        let now = MonotonicClock.now()
        let (wait, cap) = rate.withLock { ($0.wait(toSend: count, now: now), $0.bytesPerSecond) }
        if wait > 0 {
            // A thread that waits for long hears of the link's end, and of another cap.
            let end = now + wait
            while MonotonicClock.now() < end, !isPressing(), link.isOpen, capBytesPerSecond == cap {
                MonotonicClock.sleep(until: min(end, MonotonicClock.now() + 2_000_000))
            }
        }
        link.waitForRoom(count, unless: isPressing)
        if !isDisk { waited.add(MonotonicClock.now() - now, ordering: .relaxed) }
    }

    /// How long the shipper waited for the link or the cap since the last call, in nanoseconds.
    package func takeWaited() -> UInt64 { waited.exchange(0, ordering: .relaxed) }

    /// How long it takes to send what is queued, in nanoseconds. Where nobody knows yet what the link carries, little takes no
    /// time and much for ever.
    package func backlog(linkBytesPerSecond: Double) -> UInt64 {
        let capped = rate.withLock { $0.backlog(now: MonotonicClock.now()) }
        let queued = link.queuedBytes
        guard linkBytesPerSecond > 0 else { return queued > Self.littleBytes ? .max : capped }
        return max(capped, UInt64(min(Double(queued) * 1e9 / linkBytesPerSecond, 1e18)))
    }

    /// Sends one frame of `epoch`. The body is `head` followed by `payload`.
    package func send(
        _ type: FrameType, epoch: Epoch, head: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer
    ) throws(LinkError) {
        _ = try queue(type, of: epoch, head, payload)
    }

    /// Sends one frame of a disk, in the epoch that disk writes belong to now. Returns how many through frames were
    /// queued by then, this one included; 0 while there are none.
    package func sendDisk(
        _ type: FrameType, head: UnsafeRawBufferPointer,
        payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) throws(LinkError) -> UInt64 {
        try queue(type, of: nil, head, payload)
    }

    /// What was sent of the disk is to be written out, where through frames carry it: a through frame, too. Else nothing is sent.
    package func flushDisk(_ disk: UInt16) throws(LinkError) -> UInt64 {
        guard state.withLock(\.isThrough) else { return 0 }
        var body = ByteSink(capacity: 8)
        DiskFlush(disk: disk).write(into: &body)
        return try sendDisk(.diskFlush, head: body.bytes)
    }

    private func queue(
        _ type: FrameType, of epoch: Epoch?, _ head: UnsafeRawBufferPointer, _ payload: UnsafeRawBufferPointer
    ) throws(LinkError) -> UInt64 {
        let length = head.count + payload.count
        if epoch == .firstCopy, !waitToCopy(FrameHeader.size + length) { return 0 }
        var buffer = allocator.buffer(capacity: FrameHeader.size + length)
        buffer.moveWriterIndex(to: FrameHeader.size)
        buffer.writeBytes(head)
        buffer.writeBytes(payload)
        let bodyCRC = crc32c(payload, continuing: crc32c(head))
        waitForTurn(FrameHeader.size + length, isDisk: epoch == nil)
        let outcome = state.withLock { state -> Result<UInt64, LinkError> in
            if let failure = state.failure { return .failure(failure) }
            let header = FrameHeader(
                type: type, length: UInt32(length), epoch: (epoch ?? state.current).number, sequence: 0,
                bodyCRC: bodyCRC)
            let isThrough = epoch == nil && state.isThrough
            if isThrough { Self.put(header, into: &buffer) } else { Self.put(header, into: &buffer, counting: &state) }
            // Queued under the lock: the order on the link is the order of the sequence numbers, and of the count.
            do throws(LinkError) {
                try link.enqueue(buffer)
            } catch {
                state.failure = error
                return .failure(error)
            }
            if isThrough { state.throughFrames += 1 }
            return .success(isThrough ? state.throughFrames : 0)
        }
        return try outcome.get()
    }

    private static func put(_ header: FrameHeader, into buffer: inout ByteBuffer) {
        buffer.withUnsafeMutableReadableBytes { bytes in
            header.write(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<FrameHeader.size]))
        }
    }

    /// Gives the frame its number within its epoch, and notes it in the epoch's account.
    private static func put(_ header: FrameHeader, into buffer: inout ByteBuffer, counting state: inout State) {
        let index = account(of: Epoch(header.epoch), in: &state)
        var header = header
        header.sequence = state.accounts[index].account.sequence
        put(header, into: &buffer)
        buffer.withUnsafeReadableBytes { bytes in
            state.accounts[index].account.digest.update(
                bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[..<FrameHeader.size]))
        }
        state.accounts[index].account.count(header.type, bytes: UInt64(FrameHeader.size) + UInt64(header.length))
    }

    /// From here on, disk writes belong to `epoch`. Call while the guest stands still.
    package func advance(to epoch: Epoch) {
        state.withLock { ($0.current, $0.isThrough) = (epoch, false) }
    }

    /// From here on the disks' frames are through frames, and carry `epoch`, which never ends. Call while the guest stands
    /// still.
    package func goThrough(in epoch: Epoch) {
        state.withLock { ($0.current, $0.isThrough) = (epoch, true) }
    }

    /// How many through frames were queued, those of all disks together, in the order of the link.
    package var throughFrames: UInt64 { state.withLock { $0.throughFrames } }

    /// Closes the account of `epoch`: what its checkpoint end frame has to say.
    package func finish(_ epoch: Epoch) -> CheckpointEnd {
        state.withLock { state in
            let index = Self.account(of: epoch, in: &state)
            let account = state.accounts.remove(at: index).account
            let digest = account.digest.finalize().withUnsafeBytes { CheckpointDigest($0) }
            return CheckpointEnd(digest: digest, sections: account.sections)
        }
    }

    private static func account(of epoch: Epoch, in state: inout State) -> Int {
        if let index = state.accounts.firstIndex(where: { $0.epoch == epoch }) { return index }
        state.accounts.append((epoch, Account()))
        return state.accounts.count - 1
    }
}

/// A complete frame that belongs to no checkpoint's digest.
package func controlFrame(_ body: some FrameBody, epoch: Epoch = .firstCopy) -> ByteBuffer {
    var sink = ByteSink(capacity: 128)
    sink.append(frame: body, epoch: epoch, sequence: 0)
    return ByteBuffer(bytes: sink.bytes)
}
