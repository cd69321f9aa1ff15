import Model
import Wire

extension Custody {
    /// Why this host cannot be the standby at that level; nil when it can.
    package func reasonToRefuse(_ level: Level) -> String? {
        guard !level.holdsOutput, leases == nil else { return nil }
        return "\(node) has no arbiter, and at level \(level.rawValue) only one tells when the primary's guest is"
            + " silenced: configure an arbiter, or protect at level system"
    }

    /// What the primary said of its copy of a disk. Nobody is answered as long as it cannot be written: the primary's guest waits.
    func write(down note: DiskNote, for shell: StandbyShell) {
        onDecisionQueue {
            do {
                try noteOwner(note.disk, note.loss != 0, shell.offer.session.lineage)
            } catch {
                let failure = SessionError(.system, "what the primary lost cannot be kept: \(error)")
                return shell.tell { $0.failToPersist(failure) }
            }
            guard note.loss != 0 else { return }
            let link = shell.state.withLock { $0.link }
            link?.send(StandbyMessage.noted(DiskNoted(disk: note.disk, loss: note.loss)).frame)
        }
    }
}
