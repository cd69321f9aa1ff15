import LinuxSystem
import Memory
import Model
import Shipping
import Wire

/// The first copy to a standby that has a base: only what differs is sent.
extension PrimarySession {
    /// The standby answers within this, in nanoseconds; a window is 32 MiB.
    private static let digestTimeout: UInt64 = 60_000_000_000

    /// Compares all of the guest's memory with the standby's base and copies the pages that differ. The guest runs, and
    /// its memory is protected already: what it writes meanwhile is reported later.
    ///
    /// - Parameter touched: the pages that were ever touched, by block in the order of the tracked ones.
    /// - Returns: why, when protection ended meanwhile.
    func copyWhatDiffers(_ touched: [TrackedRun], _ comparison: inout MemoryComparison) throws(SessionError) -> String?
    {
        let source: Slab
        do throws(SystemError) {
            source = try Slab()
        } catch {
            throw SessionError(.system, "\(shell.options.vm) cannot be protected: \(error)")
        }
        var questions = DigestQuestions(guest.trackedBlocks)
        let total = guest.trackedBlocks.reduce(0) { $0 + Int($1.length) / pageSize }
        var done = 0
        var rest = touched[...]
        let answers = shell.state.withLock { $0.parts.pageDigests }
        let ask = { [sender] (question: PageDigests) in
            answers.expect(question)
            sender.link.send(controlFrame(question))
        }
        while let window = questions.next(ask) {
            let digests: [UInt8]
            switch try awaitDigests(window) {
            case .answered(let answer): digests = answer
            case .ended(let reason): return reason
            }
            source.reset()
            Self.fill(&source.runs, from: &rest, within: window)
            try capture.copy(source)
            let slab = try takeSlab()
            comparison.compare(window, digests, source, into: slab)
            if slab.runs.pages > 0 { shipper.push(.pages(.firstCopy, slab)) } else { pool.push(slab) }
            done += Int(window.count)
            report(memory: Double(done) / Double(max(total, 1)))
            if let ended = try look() { return ended }
        }
        return nil
    }

    private enum Wait {
        case answered([UInt8])
        case ended(String)
    }

    private func awaitDigests(_ window: PageDigests) throws(SessionError) -> Wait {
        let answers = shell.state.withLock { $0.parts.pageDigests }
        let deadline = MonotonicClock.now() + Self.digestTimeout
        while MonotonicClock.now() < deadline {
            if let digests = answers.take(window) { return .answered(digests) }
            if let ended = try look(wait: 20) { return .ended(ended) }
        }
        throw SessionError(.peerLost, "the standby did not tell within 60 s what it has of the guest's memory")
    }

    /// Moves the runs that lie in the window, the last one in part.
    private static func fill(
        _ buffer: inout RunBuffer, from rest: inout ArraySlice<TrackedRun>, within window: PageDigests
    ) {
        let end = window.first + window.count
        while let run = rest.first, run.block == window.block, run.first < end {
            buffer.append(rest.takeFirst(min(run.count, end - run.first)))
        }
    }
}
