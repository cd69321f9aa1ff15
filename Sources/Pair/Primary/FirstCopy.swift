import Disk
import LinuxSystem
import Memory
import Model
import Shipping
import Wire

/// The first copy of a guest to its standby, while the guest runs: everything, or what differs from a base.
struct FirstCopy {
    private let session: PrimarySession
    private let mirrors: [DiskMirror]

    init(_ session: PrimarySession, _ mirrors: [DiskMirror]) {
        self.session = session
        self.mirrors = mirrors
    }

    /// Copies RAM and disks while the guest runs, until little enough is left for a short pause.
    /// Returns why, when protection ended meanwhile.
    func run() throws(SessionError) -> String? {
        let began = MonotonicClock.now()
        let populated = try session.capture.protectMemory()
        let total = session.guest.blocks.reduce(0) { $0 + ($1.tracked ? $1.pages : 0) }
        if session.shell.state.withLock({ $0.duty.connection.baseBytes }) > 0 {
            var comparison = MemoryComparison()
            if let ended = try copyWhatDiffers(populated, &comparison) { return ended }
            session.shell.report(
                .event(
                    .state,
                    "\(comparison.sent) of \(total) pages were copied in \((MonotonicClock.now() - began) / 1_000_000) ms,"
                        + " \(comparison.present) with contents were at the standby already"))
            session.shell.report(.memoryCopied(sentPages: comparison.sent, presentPages: comparison.present))
        } else {
            var copied = 0
            if let ended = try copyEverything(populated, &copied) { return ended }
            session.shell.report(
                .event(
                    .state,
                    "\(copied) of \(total) pages had contents and were copied in"
                        + " \((MonotonicClock.now() - began) / 1_000_000) ms"))
            session.shell.report(.memoryCopied(sentPages: copied, presentPages: 0))
        }

        // What was written meanwhile, again and again, while it becomes less; then wait for the disks.
        var previous = UInt64.max
        var rounds = 0
        while true {
            let dirty = try session.copyEarly(of: .firstCopy)
            rounds += 1
            let ready = try areMirrorsReady()
            let disks = mirrors.reduce(0.0) { $0 + $1.progress } / Double(max(mirrors.count, 1))
            report(memory: 1, disks: mirrors.isEmpty ? 1 : disks)
            if ready, dirty < UInt64(Slab.pagesMax / 4) || (dirty > previous / 2 && rounds > 3) || rounds > 30 { break }
            previous = dirty
            if let ended = try session.look(wait: ready ? 0 : 100) { return ended }
        }
        // Checkpoint 1 must not queue behind the rest of the first copy while output is held already.
        let reached = EventFlag()
        session.shipper.push(.barrier { reached.set() })
        while !reached.isSet {
            if let ended = try session.look(wait: 5) { return ended }
        }
        return nil
    }

    /// Returns why, when protection ended meanwhile; counts the pages that were not all zeroes.
    private func copyEverything(_ populated: [TrackedRun], _ copied: inout Int) throws(SessionError) -> String? {
        let wanted = populated.reduce(0) { $0 + Int($1.count) }
        var done = 0
        var rest = populated[...]
        while !rest.isEmpty {
            let slab = try session.takeSlab()
            Self.fill(&slab.runs, from: &rest)
            try session.capture.copy(slab)
            done += slab.runs.pages
            copied += slab.pagesWithContents
            session.shipper.push(.pages(.firstCopy, slab))
            report(memory: Double(done) / Double(max(wanted, 1)))
            if let ended = try session.look() { return ended }
        }
        return nil
    }

    /// Moves as many runs as a slab takes, the last one in part.
    private static func fill(_ buffer: inout RunBuffer, from rest: inout ArraySlice<TrackedRun>) {
        while let run = rest.first, buffer.pages < Slab.pagesMax {
            buffer.append(rest.takeFirst(min(run.count, UInt32(Slab.pagesMax - buffer.pages))))
        }
    }

    private func areMirrorsReady() throws(SessionError) -> Bool {
        var ready = true
        for mirror in mirrors where !(try mirror.isReady()) { ready = false }
        return ready
    }

    private func report(memory: Double, disks: Double = 0) {
        session.shell.state.withLock { state in
            state.figures.memoryProgress = min(memory, 1)
            state.figures.diskProgress = min(disks, 1)
        }
    }

    // MARK: - Onto a base

    /// The standby answers within this, in nanoseconds; a window is 32 MiB.
    private static let digestTimeout: UInt64 = 60_000_000_000

    /// Compares all of the guest's memory with the standby's base and copies the pages that differ. The guest runs, and
    /// its memory is protected already: what it writes meanwhile is reported later.
    ///
    /// - Parameter touched: the pages that were ever touched, by block in the order of the tracked ones.
    /// - Returns: why, when protection ended meanwhile.
    private func copyWhatDiffers(_ touched: [TrackedRun], _ comparison: inout MemoryComparison) throws(SessionError)
        -> String?
    {
        let source: Slab
        do throws(SystemError) {
            source = try Slab()
        } catch {
            throw SessionError(.system, "\(session.shell.options.vm) cannot be protected: \(error)")
        }
        var questions = DigestQuestions(session.guest.trackedBlocks)
        let total = session.guest.trackedBlocks.reduce(0) { $0 + Int($1.length) / pageSize }
        var done = 0
        var rest = touched[...]
        let answers = session.shell.state.withLock { $0.parts.pageDigests }
        let ask = { [sender = session.sender] (question: PageDigests) in
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
            try session.capture.copy(source)
            let slab = try session.takeSlab()
            comparison.compare(window, digests, source, into: slab)
            if slab.runs.pages > 0 { session.shipper.push(.pages(.firstCopy, slab)) } else { session.pool.push(slab) }
            done += Int(window.count)
            report(memory: Double(done) / Double(max(total, 1)))
            if let ended = try session.look() { return ended }
        }
        return nil
    }

    private enum Wait {
        case answered([UInt8])
        case ended(String)
    }

    private func awaitDigests(_ window: PageDigests) throws(SessionError) -> Wait {
        let answers = session.shell.state.withLock { $0.parts.pageDigests }
        let deadline = MonotonicClock.now() + Self.digestTimeout
        while MonotonicClock.now() < deadline {
            if let digests = answers.take(window) { return .answered(digests) }
            if let ended = try session.look(wait: 20) { return .ended(ended) }
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
