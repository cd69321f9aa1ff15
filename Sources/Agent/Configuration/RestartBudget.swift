/// How often a guest that dies is started again within so much time: one that dies over and over is not helped by that.
public struct RestartBudget: Sendable, Equatable {
    public let limit: Int
    public let minutes: Int
    /// When it was started, in nanoseconds of one clock.
    private var starts: [UInt64] = []

    public init(limit: Int, minutes: Int) {
        self.limit = limit
        self.minutes = minutes
    }

    /// False when it was started as often as it may be; else this start counts.
    package mutating func take(at now: UInt64) -> Bool {
        let window = UInt64(minutes) * 60_000_000_000
        starts.removeAll { $0 + window <= now }
        guard starts.count < limit else { return false }
        starts.append(now)
        return true
    }
}
