import LinuxSystem
import Model

/// Pages that were read, and what came back about them.
package struct VerifiedBatch {
    package var runs: [PageRun]
    /// Digests of what was read at the primary, one for each page of `runs`, and of what the standby has; nil when it was at
    /// another epoch.
    package var ours: [UInt8]
    package var theirs: [UInt8]?
    /// Positions of pages that have no memory at the primary, rising.
    package var empty: [Int]
    /// Found written from before the first was read to the end of the epoch; sorted.
    package var written: WrittenPages
    package var epoch: Epoch

    package init(
        runs: [PageRun], ours: [UInt8], theirs: [UInt8]?, empty: [Int], written: WrittenPages, epoch: Epoch
    ) {
        self.runs = runs
        self.ours = ours
        self.theirs = theirs
        self.empty = empty
        self.written = written
        self.epoch = epoch
    }
}

/// Which pages are to be looked at next, and what is known of those that were: every page once, then those that were written
/// meanwhile again, in rounds.
package struct VerificationPlan {
    package static let roundsMax = 8

    package private(set) var verdict = MemoryVerdict()
    /// Of this round, the next one last.
    private var rest: [PageRun]
    /// For the next round, rising.
    private var again: [PageRun] = []
    private var round = 1
    private var known: Set<MemoryVerdict.Page> = []

    /// All pages of the blocks that are tracked, in order.
    package init(_ blocks: [RAMBlock]) {
        rest = blocks.filter { $0.tracked && $0.pages > 0 }.reversed().map {
            PageRun(block: $0.index, first: 0, count: UInt32($0.pages))
        }
        verdict.pages = rest.reduce(0) { $0 + Int($1.count) }
        verdict.leftOut = blocks.reduce(0) { $0 + ($1.tracked ? 0 : $1.pages) }
    }

    /// Neighbours that are to be looked at, at most `count` of them. Nil at the end of a round, which is begun with `beginRound`.
    package mutating func next(_ count: Int) -> PageRun? {
        guard let run = rest.popLast() else { return nil }
        guard Int(run.count) > count else { return run }
        rest.append(PageRun(block: run.block, first: run.first + UInt32(count), count: run.count - UInt32(count)))
        return PageRun(block: run.block, first: run.first, count: UInt32(count))
    }

    /// `run`, the last that `next` gave, was not looked at after all.
    package mutating func putBack(_ run: PageRun) { rest.append(run) }

    /// True when there is something to look at once more; else the verdict is final.
    package mutating func beginRound() -> Bool {
        precondition(rest.isEmpty, "a round ends before the next begins")
        guard !again.isEmpty, round < Self.roundsMax else {
            for run in again { for page in Self.pages(of: run) where !known.contains(page) { verdict.hot += 1 } }
            again = []
            return false
        }
        rest = again.reversed()
        again = []
        round += 1
        return true
    }

    /// Judges each page of a batch. Returns those that differ, to be sent again; they are looked at in the next round too.
    package mutating func take(_ batch: VerifiedBatch) -> [MemoryVerdict.Page] {
        let size = PageDigest.size
        var different: [MemoryVerdict.Page] = []
        var empty = batch.empty[...]
        var position = 0
        if batch.theirs != nil { note(batch.epoch) }
        for run in batch.runs {
            for page in Self.pages(of: run) {
                let isEmpty = empty.first == position
                if isEmpty { empty.removeFirst() }
                let place = position * size..<(position + 1) * size
                position += 1
                guard let theirs = batch.theirs, !batch.written.contains(block: page.block, page: page.number) else {
                    putAside(page)
                    continue
                }
                if batch.ours[place] == theirs[place] {
                    if known.contains(page) { verdict.mended += 1 } else { verdict.equal += 1 }
                } else if isEmpty {
                    if !known.contains(page) { verdict.discarded += 1 }
                } else {
                    if known.insert(page).inserted { verdict.differences.append(page) }
                    different.append(page)
                    putAside(page)
                }
            }
        }
        return different
    }

    private mutating func note(_ epoch: Epoch) {
        if verdict.epochs == 0 { verdict.firstEpoch = epoch }
        verdict.epochs += 1
        verdict.lastEpoch = epoch
    }

    private mutating func putAside(_ page: MemoryVerdict.Page) {
        if let last = again.last, last.block == page.block, last.first + last.count == page.number {
            again[again.count - 1].count += 1
        } else {
            again.append(PageRun(block: page.block, first: page.number, count: 1))
        }
    }

    private static func pages(of run: PageRun) -> some Sequence<MemoryVerdict.Page> {
        (run.first..<run.first + run.count).lazy.map { MemoryVerdict.Page(block: run.block, number: $0) }
    }
}
