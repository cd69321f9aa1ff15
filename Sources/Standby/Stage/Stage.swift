import Crypto
import Glibc
import GuestNetwork
import LinuxSystem
import Model
import NIOCore
import Wire

/// The standby's room for checkpoints that are not applied yet: a fixed number of slots, each taking one epoch.
///
/// A checkpoint is staged whole or not at all: frames must come in sequence, and the digest of their headers must equal
/// the one in the checkpoint's last frame. Not thread-safe; the session's lock guards it.
package struct Stage {
    private struct Filling {
        let slot: Int
        var digest = SHA256()
        var bytes: UInt64 = 0
    }

    /// What happened to a frame.
    package enum Outcome {
        /// Stored; the body lies here until its slot is freed.
        case stored(UnsafeRawBufferPointer)
        /// All slots are taken, or the file system has no room for the frame before one is: offer it again after `free`.
        case full
    }

    private let slots: [StageSlot]
    private var filling: [Epoch: Filling] = [:]
    private var complete: [Epoch: Int] = [:]

    package init(slots: [StageSlot]) { self.slots = slots }

    /// Bytes of frames that wait to be applied or completed.
    package var stagedBytes: Int { slots.reduce(0) { $0 + ($1.condition == .free ? 0 : $1.length) } }

    package mutating func add(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) -> Outcome {
        let epoch = Epoch(header.epoch)
        if filling[epoch] == nil {
            guard complete[epoch] == nil else {
                throw SessionError(.protocolBroken, "a frame of epoch \(epoch) came after its checkpoint was complete")
            }
            guard let index = slots.firstIndex(where: { $0.condition == .free }) else { return .full }
            slots[index].begin(epoch)
            filling[epoch] = Filling(slot: index)
        }
        let slot = slots[filling[epoch]!.slot]
        guard header.sequence == slot.frames else {
            throw SessionError(
                .protocolBroken,
                "frame \(header.sequence) of epoch \(epoch) came where frame \(slot.frames) was expected")
        }
        do {
            let stored = try withUnsafeTemporaryAllocation(byteCount: FrameHeader.size, alignment: 8) { raw in
                header.write(into: raw)
                let headerBytes = UnsafeRawBufferPointer(raw)
                let stored = try body.withUnsafeReadableBytes { try append(headerBytes, $0, to: slot) }
                filling[epoch]!.digest.update(bufferPointer: headerBytes)
                return stored
            }
            filling[epoch]!.bytes += UInt64(FrameHeader.size + body.readableBytes)
            return .stored(stored)
        } catch let error as SystemError {
            // What is complete is applied and gives its room back: the primary waits for it, and its guest runs.
            if error.errno == ENOSPC, !complete.isEmpty { return .full }
            throw SessionError(
                .system,
                "epoch \(epoch) cannot be staged: \(error); give the memory directory more room or protect fewer VMs")
        } catch {
            throw SessionError(.system, "epoch \(epoch) cannot be staged: \(error)")
        }
    }

    /// What free slots keep is given up for a frame that needs the room.
    private func append(
        _ header: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer, to slot: StageSlot
    ) throws(SystemError) -> UnsafeRawBufferPointer {
        do throws(SystemError) {
            return try slot.append(header: header, body: body)
        } catch {
            guard error.errno == ENOSPC else { throw error }
            for slot in slots where slot.condition == .free { slot.giveRoom() }
            return try slot.append(header: header, body: body)
        }
    }

    /// Checks that all of `epoch` is here and unchanged, and marks it complete.
    package mutating func finish(_ epoch: Epoch, _ end: CheckpointEnd) throws(SessionError) {
        guard let record = filling.removeValue(forKey: epoch) else {
            throw SessionError(.protocolBroken, "checkpoint \(epoch) ended without a single frame")
        }
        let slot = slots[record.slot]
        guard slot.frames == end.frameCount, record.bytes == end.byteCount,
            record.digest.finalize().withUnsafeBytes({ CheckpointDigest($0) }) == end.digest
        else {
            slot.free()
            throw SessionError(
                .protocolBroken,
                "checkpoint \(epoch) is not what the primary sent: \(slot.frames) of \(end.frameCount) frames, "
                    + "\(record.bytes) of \(end.byteCount) bytes, or another digest")
        }
        slot.complete()
        complete[epoch] = record.slot
    }

    /// The frames of a complete epoch: header, body, header, body.
    package func frames(of epoch: Epoch) -> UnsafeRawBufferPointer? { complete[epoch].map { slots[$0].bytes } }

    /// The epoch is applied; its slot takes another one.
    package mutating func free(_ epoch: Epoch) {
        if let index = complete.removeValue(forKey: epoch) { slots[index].free() }
    }

    /// Drops what is not complete.
    package mutating func discardIncomplete() {
        for record in filling.values { slots[record.slot].free() }
        filling = [:]
    }

    /// After a restart of the agent: the complete epochs that were found, in order; incomplete ones are dropped.
    package mutating func recover() -> [Epoch] {
        for (index, slot) in slots.enumerated() {
            switch slot.condition {
            case .complete: complete[slot.epoch] = index
            case .filling: slot.free()
            case .free: break
            }
        }
        return complete.keys.sorted()
    }
}

/// Walks the frames of a slot. They were checked when they were staged; a frame that does not parse ends the walk with
/// an error, because then the slot was damaged since.
package struct StagedFrames {
    private var rest: UnsafeRawBufferPointer
    package init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    package mutating func next() throws(SessionError) -> (FrameHeader, UnsafeRawBufferPointer)? {
        guard rest.count > 0 else { return nil }
        do throws(WireError) {
            let header = try FrameHeader(parsing: UnsafeRawBufferPointer(rebasing: rest.prefix(FrameHeader.size)))
            let end = FrameHeader.size + Int(header.length)
            guard rest.count >= end else {
                throw WireError.truncated(part: "frame", offset: rest.count, needed: end)
            }
            let body = UnsafeRawBufferPointer(rebasing: rest[FrameHeader.size..<end])
            rest = UnsafeRawBufferPointer(rebasing: rest[end...])
            return (header, body)
        } catch {
            throw SessionError(.protocolBroken, "a staged checkpoint is damaged: \(error)")
        }
    }
}

extension HeldOutput {
    /// A copy of the packets of a frame.
    package init(_ frame: OutputFrame, epoch: Epoch) {
        self.init(nic: frame.nic, epoch: epoch)
        bytes = Array(frame.packets)
        frames = Int(frame.count)
    }
}
