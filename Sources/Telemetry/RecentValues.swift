import Glibc
import Synchronization

/// The last durations that were seen, for the percentiles that `romulus status` shows: a histogram since the start of
/// the session would hide what happens now.
public final class RecentValues: Sendable {
    private struct Ring {
        var values: [UInt64] = []
        var next = 0
    }

    private let capacity: Int
    private let ring = Mutex(Ring())

    public init(capacity: Int = 1024) {
        precondition(capacity > 0)
        self.capacity = capacity
        ring.withLock { $0.values.reserveCapacity(capacity) }
    }

    public func add(_ value: UInt64) {
        ring.withLock { ring in
            if ring.values.count < capacity {
                ring.values.append(value)
            } else {
                ring.values[ring.next] = value
                ring.next = (ring.next + 1) % capacity
            }
        }
    }

    /// The values below which these shares (0...1) of the remembered ones lie, nearest rank; nil when there are none.
    public func quantiles(_ shares: [Double]) -> [UInt64]? {
        let sorted = ring.withLock { $0.values }.sorted()
        guard !sorted.isEmpty else { return nil }
        return shares.map { share in
            let rank = (share * Double(sorted.count)).rounded(.up)
            return sorted[min(max(Int(rank) - 1, 0), sorted.count - 1)]
        }
    }
}

/// How much came per second, over the last whole seconds.
public final class RateMeter: Sendable {
    /// The seconds that an answer looks back on.
    public static let window = 5

    private struct Slot {
        var second: UInt64 = 0
        var amount: UInt64 = 0
    }

    private struct State {
        var slots = [Slot](repeating: Slot(), count: RateMeter.window + 1)
        var firstSecond: UInt64?
    }

    private let state = Mutex(State())

    public init() {}

    /// `at` is a time on the monotonic clock, in nanoseconds.
    public func add(_ amount: UInt64, at now: UInt64 = monotonicNanoseconds()) {
        let second = now / 1_000_000_000
        state.withLock { state in
            if state.firstSecond == nil { state.firstSecond = second }
            let index = Int(second % UInt64(state.slots.count))
            if state.slots[index].second != second { state.slots[index] = Slot(second: second) }
            state.slots[index].amount &+= amount
        }
    }

    /// The mean per second over the whole seconds before `at`, at most `window` of them.
    public func perSecond(at now: UInt64 = monotonicNanoseconds()) -> Double {
        let second = now / 1_000_000_000
        return state.withLock { state in
            guard let first = state.firstSecond, first <= second else { return 0 }
            let span = min(UInt64(RateMeter.window), second - first)
            guard span > 0 else {
                // In the very first second there is no whole one to look at: what came so far is the best answer.
                return Double(state.slots[Int(second % UInt64(state.slots.count))].amount)
            }
            var sum: UInt64 = 0
            for slot in state.slots where slot.second < second && slot.second + span >= second {
                sum &+= slot.amount
            }
            return Double(sum) / Double(span)
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
public func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// CLOCK_REALTIME in seconds since 1970.
func wallClockSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
