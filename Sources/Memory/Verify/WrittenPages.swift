import LinuxSystem

/// Pages that were found written while a batch was read and its epoch sealed.
package struct WrittenPages: Sendable {
    private var runs: [TrackedRun] = []
    /// So much was written that nobody keeps account: every page counts as written.
    private var isOverfull = false
    private var isSorted = true

    /// 12 bytes each.
    private static let runsMax = 65_536

    package init() {}

    package mutating func removeAll() {
        runs.removeAll(keepingCapacity: true)
        isOverfull = false
        isSorted = true
    }

    package mutating func insert(_ found: UnsafeBufferPointer<TrackedRun>) {
        guard !isOverfull else { return }
        guard runs.count + found.count <= Self.runsMax else {
            isOverfull = true
            return runs.removeAll(keepingCapacity: true)
        }
        runs.append(contentsOf: found)
        isSorted = false
    }

    /// After the last `insert` and before `contains`.
    package mutating func sort() {
        runs.sort { ($0.block, $0.first) < ($1.block, $1.first) }
        var merged: [TrackedRun] = []
        for run in runs {
            if let last = merged.last, last.block == run.block, run.first <= last.first + last.count {
                let end = max(last.first + last.count, run.first + run.count)
                merged[merged.count - 1].count = end - last.first
            } else {
                merged.append(run)
            }
        }
        runs = merged
        isSorted = true
    }

    package func contains(block: UInt16, page: UInt32) -> Bool {
        precondition(isSorted, "what was inserted is sorted before it is looked up")
        if isOverfull { return true }
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if (runs[middle].block, runs[middle].first) <= (block, page) { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return false }
        let run = runs[low - 1]
        return run.block == block && page < run.first + run.count
    }
}
