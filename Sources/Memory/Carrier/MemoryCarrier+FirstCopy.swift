import Carriers
import LinuxSystem
import Model
import Shipping
import Wire

/// The first copy of the memory, while the guest runs: everything, or what differs from a base.
extension MemoryCarrier {
    /// The standby answers within this, in nanoseconds; a window is 32 MiB.
    private static let digestTimeout: UInt64 = 60_000_000_000

    package func copy(_ look: Look) throws(SessionError) -> String? {
        let began = MonotonicClock.now()
        func took() -> UInt64 { (MonotonicClock.now() - began) / 1_000_000 }
        let populated = try capture.protectMemory()
        let total = guest.blocks.reduce(0) { $0 + ($1.tracked ? $1.pages : 0) }
        if let base {
            var comparison = MemoryComparison()
            if let ended = try copyWhatDiffers(from: base, populated, &comparison, look) { return ended }
            hooks.tell(
                "\(comparison.sent) of \(total) pages were copied in \(took()) ms,"
                    + " \(comparison.present) with contents were at the standby already")
            hooks.copied(comparison.sent, comparison.present)
        } else {
            var copied = 0
            if let ended = try copyEverything(populated, &copied, look) { return ended }
            hooks.tell("\(copied) of \(total) pages had contents and were copied in \(took()) ms")
            hooks.copied(copied, 0)
        }
        return nil
    }

    /// Returns why, when protection ended meanwhile; counts the pages that were not all zeroes.
    private func copyEverything(
        _ populated: [TrackedRun], _ copied: inout Int, _ look: Look
    ) throws(SessionError) -> String? {
        let wanted = populated.reduce(0) { $0 + Int($1.count) }
        var done = 0
        var rest = populated[...]
        var ended: String?
        while !rest.isEmpty {
            guard let slab = try takeSlab(&ended, look) else { return ended }
            Self.fill(&slab.runs, from: &rest)
            try capture.copy(slab)
            done += slab.runs.pages
            copied += slab.pagesWithContents
            shipper.push(.pages(.firstCopy, slab))
            progress = min(Double(done) / Double(max(wanted, 1)), 1)
            ended = try look(0)
            if ended != nil { return ended }
        }
        return nil
    }

    /// Moves as many runs as a slab takes, the last one in part.
    private static func fill(_ buffer: inout RunBuffer, from rest: inout ArraySlice<TrackedRun>) {
        while let run = rest.first, buffer.pages < Slab.pagesMax {
            buffer.append(rest.takeFirst(min(run.count, UInt32(Slab.pagesMax - buffer.pages))))
        }
    }

    // MARK: - Onto a base

    /// Compares all of the guest's memory with the standby's base and copies the pages that differ. The guest runs, and
    /// its memory is protected already: what it writes meanwhile is reported later.
    ///
    /// - Parameter touched: the pages that were ever touched, by block in the order of the tracked ones.
    /// - Returns: why, when protection ended meanwhile.
    private func copyWhatDiffers(
        from base: Answers<PageDigests, [UInt8]>, _ touched: [TrackedRun], _ comparison: inout MemoryComparison,
        _ look: Look
    ) throws(SessionError) -> String? {
        let source: Slab
        do throws(SystemError) {
            source = try Slab()
        } catch {
            throw SessionError(.system, "\(guest.vm) cannot be protected: \(error)")
        }
        var questions = DigestQuestions(guest.trackedBlocks)
        let total = guest.trackedBlocks.reduce(0) { $0 + Int($1.length) / pageSize }
        var done = 0
        var rest = touched[...]
        var ended: String?
        let ask = { [link = shipper.sender.link] (question: PageDigests) in
            base.expect(question)
            link.send(controlFrame(question))
        }
        while let window = questions.next(ask) {
            let digests: [UInt8]
            switch try awaitDigests(window, from: base, look) {
            case .answered(let answer): digests = answer
            case .ended(let reason): return reason
            }
            source.reset()
            Self.fill(&source.runs, from: &rest, within: window)
            try capture.copy(source)
            guard let slab = try takeSlab(&ended, look) else { return ended }
            comparison.compare(window, digests, source, into: slab)
            if slab.runs.pages > 0 { shipper.push(.pages(.firstCopy, slab)) } else { shipper.pool.push(slab) }
            done += Int(window.count)
            progress = min(Double(done) / Double(max(total, 1)), 1)
            ended = try look(0)
            if ended != nil { return ended }
        }
        return nil
    }

    private enum Wait {
        case answered([UInt8])
        case ended(String)
    }

    private func awaitDigests(
        _ window: PageDigests, from base: Answers<PageDigests, [UInt8]>, _ look: Look
    ) throws(SessionError) -> Wait {
        let deadline = MonotonicClock.now() + Self.digestTimeout
        while MonotonicClock.now() < deadline {
            if let digests = base.take(window) { return .answered(digests) }
            if let ended = try look(20) { return .ended(ended) }
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
