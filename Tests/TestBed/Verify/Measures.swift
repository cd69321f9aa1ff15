/// Counts of durations in buckets that are at most 1/32 wide: bounded memory for a run of any length.
struct LatencyHistogram {
    private var buckets = [UInt64](repeating: 0, count: 64 * 32)
    private(set) var count: UInt64 = 0

    mutating func add(nanoseconds: UInt64) {
        buckets[Self.index(of: nanoseconds)] += 1
        count += 1
    }

    /// The upper edge of the bucket that holds the given share of all values, in milliseconds; 0 without values.
    func percentile(_ share: Double) -> Double {
        guard count > 0 else { return 0 }
        let rank = max(1, UInt64((Double(count) * share).rounded(.up)))
        var seen: UInt64 = 0
        for (index, value) in buckets.enumerated() {
            seen += value
            if seen >= rank { return Double(Self.upperEdge(of: index)) / 1e6 }
        }
        return 0
    }

    private static func index(of value: UInt64) -> Int {
        guard value >= 32 else { return Int(value) }
        let shift = 58 - value.leadingZeroBitCount
        return (shift + 1) * 32 + Int(value >> UInt64(shift)) - 32
    }

    private static func upperEdge(of index: Int) -> UInt64 {
        guard index >= 32 else { return UInt64(index) }
        let shift = UInt64(index / 32 - 1)
        return (UInt64(index % 32 + 32 + 1) << shift) - 1
    }
}

/// The longest time in which something was awaited and nothing came. Times are of CLOCK_MONOTONIC, in nanoseconds.
struct SilenceMeter {
    private var waitingSince: UInt64?
    private(set) var longest: UInt64 = 0
    private(set) var longestBegan: UInt64 = 0

    /// Something is awaited from now on, if nothing was before.
    mutating func expect(at now: UInt64) {
        if waitingSince == nil { waitingSince = now }
    }

    /// Something came; `isMoreAwaited` says whether the next silence begins at once.
    mutating func hear(at now: UInt64, isMoreAwaited: Bool) {
        look(at: now)
        waitingSince = isMoreAwaited ? now : nil
    }

    /// Counts a silence that goes on.
    mutating func look(at now: UInt64) {
        guard let since = waitingSince, now - since > longest else { return }
        longest = now - since
        longestBegan = since
    }
}
