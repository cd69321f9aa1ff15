import Synchronization

/// A number that grows only. Adding is one relaxed atomic operation.
public final class Counter: Sendable {
    private let total = Atomic<UInt64>(0)

    public init() {}

    public func add(_ amount: UInt64 = 1) {
        total.wrappingAdd(amount, ordering: .relaxed)
    }

    public var value: UInt64 { total.load(ordering: .relaxed) }
}

/// A number that goes up and down, kept as the bits of a `Double`.
public final class Gauge: Sendable {
    private let bits = Atomic<UInt64>(0)

    public init() {}

    public func set(_ value: Double) {
        bits.store(value.bitPattern, ordering: .relaxed)
    }

    public func set(_ value: some BinaryInteger) {
        set(Double(value))
    }

    /// Adds `amount`, which may be negative.
    public func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (done, current) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if done { return }
            old = current
        }
    }

    public var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }
}

/// Durations sorted into fixed buckets. Observing is two relaxed atomic additions and a short search.
public final class Histogram: Sendable {
    /// Upper, inclusive bounds in nanoseconds, rising; one more bucket holds everything above the last.
    public let bounds: [UInt64]
    // SAFETY: allocated once in `init`, freed in `deinit`, never rebound; every access in between goes through
    // `Atomic`. An Array cannot hold atomics, and the number of buckets differs from family to family.
    nonisolated(unsafe) private let buckets: UnsafeMutablePointer<Atomic<UInt64>>
    private let total = Atomic<UInt64>(0)

    /// `bounds` must rise strictly.
    public init(bounds: [UInt64]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds of a histogram must rise")
        self.bounds = bounds
        buckets = .allocate(capacity: bounds.count + 1)
        for index in 0...bounds.count {
            (buckets + index).initialize(to: Atomic(0))
        }
    }

    deinit {
        buckets.deinitialize(count: bounds.count + 1)
        buckets.deallocate()
    }

    public func observe(nanoseconds: UInt64) {
        var index = 0
        while index < bounds.count, nanoseconds > bounds[index] { index += 1 }
        buckets[index].wrappingAdd(1, ordering: .relaxed)
        total.wrappingAdd(nanoseconds, ordering: .relaxed)
    }

    /// What was observed so far. The count is the sum of the buckets, so that the two agree even while others observe.
    public var snapshot: Snapshot {
        Snapshot(
            buckets: (0...bounds.count).map { buckets[$0].load(ordering: .relaxed) },
            totalNanoseconds: total.load(ordering: .relaxed))
    }

    public struct Snapshot: Sendable, Hashable {
        /// Observations per bucket, not cumulated; one more than there are bounds.
        public let buckets: [UInt64]
        public let totalNanoseconds: UInt64
        public var count: UInt64 { buckets.reduce(0, &+) }
    }
}

/// One of several named states, shown as one 0/1 series for each.
public final class StateSet: Sendable {
    public let names: [String]
    private let current = Atomic<Int>(-1)

    public init(names: [String]) {
        self.names = names
    }

    /// Makes `name` the only series that shows 1. A name that is not in `names` makes all of them show 0.
    public func set(_ name: String) {
        current.store(names.firstIndex(of: name) ?? -1, ordering: .relaxed)
    }

    public var value: String? {
        let index = current.load(ordering: .relaxed)
        return index < 0 ? nil : names[index]
    }
}
