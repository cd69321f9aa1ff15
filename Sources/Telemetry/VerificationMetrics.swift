/// What the last verification of a VM's replica found.
public struct VerificationMetrics: Sendable {
    private let equal: Gauge
    private let differing: Gauge
    private let hot: Gauge
    private let discarded: Gauge
    private let timestamp: Gauge
    private let duration: Gauge

    init(_ registry: Registry, _ vm: Label) {
        func pages(_ result: String) -> Gauge {
            registry.gauge(Families.verifyPages, [vm, Label("result", result)])
        }
        equal = pages("equal")
        differing = pages("differing")
        hot = pages("hot")
        discarded = pages("discarded")
        timestamp = registry.gauge(Families.verifyTimestamp, [vm])
        duration = registry.gauge(Families.verifyDuration, [vm])
    }

    /// In pages, but for the time that it took.
    public func record(equal: Int, differing: Int, hot: Int, discarded: Int, seconds: Double) {
        self.equal.set(equal)
        self.differing.set(differing)
        self.hot.set(hot)
        self.discarded.set(discarded)
        duration.set(seconds)
        timestamp.set(wallClockSeconds())
    }
}
