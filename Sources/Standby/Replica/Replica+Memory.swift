import GuestNetwork
import Hypervisor
import Messages
import Model

/// The memory of a guest and the QEMU that waits for it, attached to a replica of disks and detached from it. On the apply thread.
extension Replica {
    /// Makes RAM, slots and a QEMU that waits beside the disks; seconds of work. When it fails, the replica is as it was before.
    package func attachMemory(_ blocks: [RAMBlock], _ nics: [OfferedNIC]) throws(SessionError) {
        guard memoryPart == nil else { throw SessionError(.protocolBroken, "memory is there already") }
        let before = offer
        var undo = Undo()
        undo.add { [self] in (offer, memoryPart, stage, guest) = (before, nil, nil, nil) }
        do {
            (offer.blocks, offer.nics) = (blocks, nics)
            let memory = try MemoryReplica(offer, command, places, joins: true)
            undo.add { memory.withdraw(keepingMemory: memory.baseBytes > 0) }
            memoryPart = memory
            stage = try StageFiles(in: places.memoryDirectory, for: blocks)
            let waiting = try Self.startWaiting(offer, command, places)
            undo.add { [self] in
                waiting.giveWay()
                pid.store(0, ordering: .relaxed)
            }
            guest = waiting
            pid.store(waiting.pid, ordering: .relaxed)
            // From here on a restarted agent finds it.
            try writeManifest()
            raisePriority()
        } catch {
            undo.run()
            throw (error as? SessionError) ?? SessionError(.refused, "\(error)")
        }
    }

    /// Ends the QEMU, and gives RAM and slots back, which nobody uses any more. The disks stay as they are.
    package func detachMemory() throws(SessionError) {
        guard let memory = memoryPart else { return }
        (offer.blocks, offer.nics, memoryPart, stage) = ([], [], nil, nil)
        do {
            // First, with its process: an agent that is started anew ends a QEMU that is named beside no memory.
            try writeManifest()
        } catch {
            throw SessionError(.system, "that \(offer.vm) has no memory here any more cannot be remembered: \(error)")
        }
        guest?.giveWay()
        guest = nil
        pid.store(0, ordering: .relaxed)
        memory.withdraw(keepingMemory: false)
    }

    /// Starts the guest from its disks, at a level at which its memory may be behind them: what is here of it is not used.
    package func start(from epoch: Epoch, outputs held: [HeldOutput], decidedAt: UInt64) throws(SessionError)
        -> TakeOverReport
    {
        do throws(SessionError) {
            try detachMemory()
        } catch {
            throw SessionError(
                error.code, "\(offer.vm) cannot be started from its disks, which stay as they are: \(error.message)")
        }
        return try boot(from: epoch, outputs: held, decidedAt: decidedAt)
    }
}
