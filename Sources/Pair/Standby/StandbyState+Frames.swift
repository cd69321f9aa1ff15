import GuestNetwork
import LinuxSystem
import Model
import NIOCore
import Shipping
import Standby
import Wire

/// What frames leave behind.
extension StandbyState {
    // MARK: - Of no checkpoint

    /// It goes into the replica as it is, behind what waits already.
    mutating func queueDirectly(_ header: FrameHeader, _ body: ByteBuffer) {
        if Epoch(header.epoch) == .firstCopy {
            duty.noteFirstCopy(FrameHeader.size + body.readableBytes)
        } else if !duty.machine.takesWrites {
            // I5: and never again in this session, so no later one is answered for in its place.
            return
        } else if writes.mustWait(applied: duty.applied) {
            // It does not count as what waits for the apply thread: what that waits for comes behind it.
            return heldBack.append((header, body))
        }
        queueNow(header, body)
    }

    /// A checkpoint is applied.
    mutating func releaseHeldBack() {
        guard !writes.mustWait(applied: duty.applied) else { return }
        for (header, body) in heldBack { queueNow(header, body) }
        heldBack = []
    }

    private mutating func queueNow(_ header: FrameHeader, _ body: ByteBuffer) {
        directBytes += body.readableBytes
        queue.append(.direct(header, body))
    }

    /// It is in the replica.
    mutating func noteApplied(_ header: FrameHeader, _ byteCount: Int) {
        directBytes -= byteCount
        guard ThroughWrites.contains(header) else {
            firstCopyBytes += UInt64(byteCount)
            return
        }
        let taken = writes.note(byteCount: byteCount, isFollowed: queue.beginsWithWrite)
        if let taken, duty.machine.takesWrites { link?.send(controlFrame(taken)) }
    }

    // MARK: - Of a checkpoint

    /// Puts the disk writes and the held output of a recovered epoch back to where they were.
    mutating func restage(_ epoch: Epoch, to replica: Replica) throws {
        guard let frames = stage.frames(of: epoch) else { return }
        var walk = StagedFrames(frames)
        while let (header, body) = try walk.next() { try note(header, body, replica) }
    }

    /// False when there is no room for it now.
    mutating func stage(
        _ header: FrameHeader, _ body: ByteBuffer, _ replica: Replica
    ) throws(SessionError) -> Bool {
        guard case .stored(let stored) = try stage.add(header, body) else { return false }
        do {
            try note(header, stored, replica)
        } catch let error as SessionError {
            throw error
        } catch {
            throw SessionError(
                .protocolBroken, "a \(header.type) frame of epoch \(header.epoch) is not valid: \(error)")
        }
        return true
    }

    /// Takes note of what is in a staged frame that must be known before it is applied.
    mutating func note(_ header: FrameHeader, _ stored: UnsafeRawBufferPointer, _ replica: Replica) throws {
        let epoch = Epoch(header.epoch)
        switch header.type {
        case .diskWrite:
            let write = try DiskWrite(parsing: stored)
            try replica.disk(write.disk).stage(epoch: epoch, offset: write.offset, data: write.data)
        case .diskZero:
            let zero = try DiskZero(parsing: stored)
            try replica.disk(zero.disk).stageZero(
                epoch: epoch, offset: zero.offset, length: zero.length, mayUnmap: zero.mayUnmap)
        case .output:
            outputs.append(HeldOutput(try OutputFrame(parsing: stored), epoch: epoch))
        default: break
        }
    }

    /// One that asks for it is answered, behind all that came before it.
    func answer(heartbeat body: ByteBuffer) throws(SessionError) {
        let beat = try body.parsed(from: "primary") { (bytes) throws(WireError) in try Heartbeat(parsing: bytes) }
        guard beat.echo == Heartbeat.ask else { return }
        link?.send(controlFrame(Heartbeat(sent: MonotonicClock.now(), echo: beat.sent)))
    }
}
