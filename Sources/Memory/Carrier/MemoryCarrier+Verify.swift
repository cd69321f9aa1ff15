import LinuxSystem
import Model

/// What a verification of the replica's memory wants of the epochs.
extension MemoryCarrier {
    /// An epoch is not ended for it before this, in nanoseconds: its guest stands still ten times a second at most.
    private static let epochLeast: UInt64 = 100_000_000

    /// When the epoch that runs is to end for the verification; never when nothing waits for that.
    package func verificationDue(ranSince: UInt64) -> UInt64 {
        verification.isWaiting ? ranSince + Self.epochLeast : .max
    }

    /// A seal begins, with the guest running. Pages that the standby was found to hold differently are copied and sent whole
    /// with its epoch: what is written of them from here on is found by its scans, and sent after them.
    func mend(with epoch: Epoch) throws(SessionError) {
        verification.sealBegins()
        guard let pages = verification.takeMending(Slab.pagesMax) else { return }
        let slab = try takeSlab()
        for run in pages { slab.runs.append(TrackedRun(block: run.block, first: run.first, count: run.count)) }
        try capture.copy(slab)
        verification.note(slab.runs.runs)
        shipper.push(.pagesAnew(epoch, slab))
    }

    func askToVerify(_ epoch: Epoch) {
        if let question = verification.question(at: epoch, in: session) { shipper.push(.verify(epoch, question)) }
    }
}
