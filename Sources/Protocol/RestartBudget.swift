/// How often a guest that dies is started again within so much time, at both hosts together: one that dies over and over is not
/// helped by that.
///
/// Where it cannot be started where it ran, or was as often as it may be, the other host is let start it, once within that time: a
/// host that is at fault is left by that, and a guest that is does not go to and fro.
public struct RestartBudget: Sendable, Equatable {
    public let limit: Int
    public let minutes: Int
    public private(set) var past = Past()

    /// What is remembered over the end of an agent, in nanoseconds of one clock.
    public struct Past: Sendable, Equatable, Codable {
        /// When it was started.
        public var starts: [UInt64] = []
        /// When it was last given to the other host, or by it.
        public var movedAt: UInt64?

        public init() {}
    }

    public init(limit: Int, minutes: Int) {
        (self.limit, self.minutes) = (limit, minutes)
    }

    /// The same budget, of which something was spent. What happened later than now happened now.
    public func spent(_ past: Past, by now: UInt64) -> RestartBudget {
        var budget = self
        budget.past.starts = past.starts.suffix(capped(past.starts.count)).map { min($0, now) }
        budget.past.movedAt = past.movedAt.map { min($0, now) }
        return budget
    }

    /// More starts than these make no difference.
    private func capped(_ count: Int) -> Int { min(count, limit + 1) }

    private var window: UInt64 { UInt64(minutes) * 60_000_000_000 }

    /// How many starts count by now.
    private mutating func count(at now: UInt64) -> Int {
        let window = window
        past.starts.removeAll { $0 + window <= now }
        return past.starts.count
    }

    /// False when it was started as often as it may be; else this start counts.
    public mutating func take(at now: UInt64) -> Bool {
        guard count(at: now) < limit else { return false }
        past.starts.append(now)
        return true
    }

    /// How many starts the other host is told of, where it may start a guest that cannot be started here; nil where it may not.
    public mutating func startsToTell(at now: UInt64) -> Int? {
        guard limit > 0, past.movedAt.map({ $0 + window <= now }) ?? true else { return nil }
        return max(count(at: now), 1)
    }

    /// The other host starts it.
    public mutating func giveAway(at now: UInt64) { past.movedAt = now }

    /// The other host gave it away after so many starts, and it was started here.
    public mutating func takeOver(after count: Int, at now: UInt64) {
        past.starts = [UInt64](repeating: now, count: capped(count) + 1)
        past.movedAt = now
    }
}
