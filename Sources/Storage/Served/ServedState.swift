/// The rules by which a disk is served that has a copy here and one at the standby: where a request goes, and when it is done.
///
/// No write is done in one copy only before somebody else knows durably that the other one is not whole: for the copy here that
/// is the standby (`isNoted`), for the standby's the register (`alone` is said once it names this host alone). I40 in
/// docs/INVARIANTS.md. There is no I/O and no clock in it.
package struct ServedState: Sendable, Hashable {
    package enum Here: Sendable, Hashable {
        /// It has every write that was done.
        case whole
        /// It is not written any more. The reason, as a sentence.
        case lost(String)
        /// What it lacks is being copied to it.
        case rejoining
    }

    package enum There: Sendable, Hashable {
        case paired
        /// Whoever carries requests there has ended. Nothing is done until it is decided who goes on.
        case silent
        /// The register names this host alone.
        case alone
    }

    package struct Places: Sendable, Hashable {
        package var here: Bool
        package var there: Bool

        package init(here: Bool, there: Bool) { (self.here, self.there) = (here, there) }
    }

    package private(set) var here = Here.whole
    package private(set) var there = There.silent
    /// How often the copy here was lost.
    package private(set) var loss: UInt64 = 0
    /// The standby knows of the present loss.
    package private(set) var isNoted = false
    /// What the copy here lacks.
    package private(set) var stale: StaleChunks
    /// Chunks that were written here since the last flush that storage said to be done: lost with the copy.
    private var unflushed: Set<Int> = []
    /// The same, of flushes that are under way.
    private var flushing: Set<Int> = []
    private var flushes = 0

    package init(size: UInt64) { stale = StaleChunks(size: size) }

    package var isWhole: Bool { here == .whole }

    // MARK: - Requests

    /// Where a write goes. What it does not reach here is stale from then on.
    package mutating func places(ofWrite range: Range<UInt64>) -> Places {
        let reachesHere = isWhole || here == .rejoining && !stale.has(anyOf: range)
        if reachesHere { unflushed.formUnion(StaleChunks.chunks(range)) } else { stale.mark(range) }
        return Places(here: reachesHere, there: there != .alone)
    }

    /// Where a read is answered from; nil while it has to wait.
    package var readsHere: Bool? {
        if isWhole { return true }
        return there == .paired ? false : nil
    }

    /// Whether the guest may be told that a write or a flush is done for which nothing is waited for any more.
    /// - Parameter reachedHere: it was done in the copy that is here.
    package func mayAnswer(reachedHere: Bool) -> Bool {
        switch there {
        case .alone: reachedHere && isWhole
        case .paired, .silent: isWhole && reachedHere || isNoted
        }
    }

    /// This host has the guest alone, and its copy is lost: what is asked of it fails, as it would without a server. Not where
    /// something may have been done in the other copy only.
    package var failsAll: Bool { there == .alone && !isWhole && !isNoted }

    /// What is told of it.
    /// - Parameters:
    ///   - bytesCopied: by the present rejoining, or the last one: what differed.
    ///   - lostAt: since when it is lost, in seconds of the wall clock.
    package func report(bytesCopied: UInt64, lostAt: Int?) -> ServedReport {
        var report = ServedReport(
            loss: loss, isNoted: isNoted, staleChunks: stale.count, bytesCopied: bytesCopied, lostAt: lostAt)
        switch here {
        case .whole: break
        case .lost(let why): report.lost = why
        case .rejoining: report.isRejoining = true
        }
        return report
    }

    // MARK: - What happens

    package mutating func pair() { there = .paired }

    package mutating func fallSilent() { if there == .paired { there = .silent } }

    package mutating func goAlone() { there = .alone }

    /// The copy here failed. False when it was lost before. `missing`: what was under way there.
    /// - Parameter isFlush: a flush failed: nothing is known any more of what was written before.
    package mutating func lose(_ why: String, missing: [Range<UInt64>], isFlush: Bool) -> Bool {
        for range in missing { stale.mark(range) }
        if case .lost = here { return false }
        for chunk in unflushed.union(flushing) { stale.mark(stale.range(of: chunk)) }
        (unflushed, flushing, flushes) = ([], [], 0)
        if isFlush { stale.markAll() }
        if here == .whole {
            loss += 1
            isNoted = false
        }
        here = .lost(why)
        return true
    }

    /// The standby says that it knows of that loss.
    package mutating func note(_ number: UInt64) { if number == loss, !isWhole { isNoted = true } }

    /// Another file, or another disk, is in the place of the one that was lost.
    package mutating func beReplaced() { stale.markAll() }

    /// False while it cannot be.
    package mutating func rejoin() -> Bool {
        guard case .lost = here, there == .paired else { return false }
        here = .rejoining
        return true
    }

    /// That part is equal again.
    package mutating func copied(_ chunk: Int) {
        guard here == .rejoining else { return }
        stale.clear(chunk)
        unflushed.insert(chunk)
    }

    /// Nothing is missing any more, and storage has all of it. False when a write came between.
    package mutating func becomeWhole() -> Bool {
        guard here == .rejoining, stale.isEmpty else { return false }
        here = .whole
        isNoted = false
        return true
    }

    package mutating func beginFlush() {
        flushing.formUnion(unflushed)
        unflushed = []
        flushes += 1
    }

    /// Storage has all that was written before it began.
    package mutating func endFlush() {
        flushes -= 1
        if flushes == 0 { flushing = [] }
    }
}
