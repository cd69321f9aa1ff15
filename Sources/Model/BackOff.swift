/// How long to wait before something that failed is tried again: short at first, twice as long after each further failure, up
/// to a bound. It has no clock of its own.
public struct BackOff: Hashable, Sendable {
    /// The wait after the first failure, in nanoseconds.
    public let first: UInt64
    /// The longest wait, in nanoseconds.
    public let most: UInt64
    /// Failures since the beginning, or since the last `reset`.
    public private(set) var failures = 0

    /// - Precondition: `first` is at least 1 and not more than `most`.
    public init(first: UInt64, most: UInt64) {
        precondition(first >= 1 && first <= most, "a wait must grow")
        self.first = first
        self.most = most
    }

    /// How long to wait after the last failure, in nanoseconds; 0 when there was none.
    public var wait: UInt64 {
        guard failures > 0 else { return 0 }
        let doublings = failures - 1
        return doublings < first.leadingZeroBitCount ? min(first << UInt64(doublings), most) : most
    }

    /// Notes one more failure and returns how long to wait now, in nanoseconds.
    public mutating func fail() -> UInt64 {
        failures += 1
        return wait
    }

    /// It worked, or what stood in its way is another thing now: the next failure is the first.
    public mutating func reset() { failures = 0 }
}
