import Messages
import Model
import NIOCore
import Standby
import Wire

/// The guest's memory, attached to a session and detached from it while the dial is turned.
extension StandbyState {
    /// What the primary says of it, for the apply thread.
    mutating func noteOrder(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .through:
            _ = try body.parsed(from: "primary") { (bytes) throws(WireError) in try Through(parsing: bytes) }
            try writes.begin(Epoch(header.epoch), staged: duty.staged, hasMemory: hasMemory)
        case .attach:
            let message = try AttachMessage(body)
            if message.part == .detour { return queue.append(.attachDetour(message)) }
            guard !hasMemory else { throw SessionError(.protocolBroken, "memory was to be attached a second time") }
            memoryOrder += 1
            queue.append(.attachMemory(message, order: memoryOrder))
        case .detach:
            if try DetachMessage(body).part == .detour { return queue.append(.detachDetour) }
            memoryOrder += 1
            hasMemory = false
            queue.append(.detachMemory)
        default: break
        }
    }

    /// Somebody waits for it still.
    func isWanted(order: Int) -> Bool { order == memoryOrder && duty.machine.takesWrites }

    /// It is there, or why not. What was taken back meanwhile is not spoken of: it goes away next.
    mutating func takeMemory(of replica: Replica, order: Int, refusal: String?) {
        guard isWanted(order: order) else { return }
        if refusal == nil { (stage, hasMemory) = (Stage(slots: replica.slots), true) }
        link?.send(
            AttachedMessage(.memory, refusal: refusal, qemuPID: replica.qemuPID, baseBytes: replica.baseBytes).frame)
    }

    /// Before it goes away.
    mutating func leaveMemory(of replica: Replica) throws(SessionError) {
        guard replica.disks.allSatisfy({ $0.staged.writes == 0 }) else {
            throw SessionError(.protocolBroken, "memory was to be detached while writes belong to checkpoints")
        }
        _ = forgetMemory(of: replica)
    }

    /// The guest is started from its disks: what was staged beyond them was never acknowledged. Returns what they are at.
    mutating func forgetMemory(of replica: Replica) -> Epoch {
        // They lie in the slots.
        for disk in replica.disks { disk.discard(after: duty.applied) }
        (stage, hasMemory, outputs) = (Stage(slots: []), false, [])
        return duty.applied
    }
}
