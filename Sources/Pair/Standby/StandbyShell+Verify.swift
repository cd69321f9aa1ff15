import LinuxSystem
import Model
import Shipping
import Wire

/// Telling the primary what the replica's memory is like.
extension StandbyShell {
    /// Pages that are digested before it is looked whether something more urgent waits.
    private static let pagesAtOnce: UInt32 = 2048

    /// Called by the apply thread, so that nothing is applied meanwhile.
    func answer(_ question: VerifyQuestion, at epoch: Epoch) throws(SessionError) {
        let isThere = state.withLock { $0.status.applied == epoch } && question.session == session
        guard let digests = isThere ? try self.digests(question.runs) : [] else { return }
        let frame = digests.withUnsafeBytes {
            controlFrame(VerifyReply(session: question.session, digests: $0), epoch: epoch)
        }
        state.withLock { $0.link }?.send(frame)
    }

    /// Nil when the guest is to go on here: then nobody waits for them.
    private func digests(_ runs: [PageRun]) throws(SessionError) -> [UInt8]? {
        var digests: [UInt8] = []
        for run in runs {
            var first = run.first
            let end = run.first + run.count
            while first < end {
                if state.withLock({ $0.isLeaving }) { return nil }
                let count = min(end - first, Self.pagesAtOnce)
                digests += try replica.memory.digests(PageDigests(block: run.block, first: first, count: count))
                first += count
            }
        }
        return digests
    }
}

extension StandbyShell.State {
    /// The replica is to be resumed or given up next.
    fileprivate var isLeaving: Bool {
        work[workHead...].contains { item in
            switch item {
            case .load, .resume, .endReplica, .dismantle: true
            default: false
            }
        }
    }
}
