/// What became of the fence commands of the peers.
public struct FencingMetrics: Sendable {
    public let confirmed: Counter
    public let failed: Counter
    public let late: Counter
    public let heard: Counter

    public init(registry: Registry) {
        func counter(_ result: String) -> Counter { registry.counter(Families.fencing, [Label("result", result)]) }
        confirmed = counter("confirmed")
        failed = counter("failed")
        late = counter("timeout")
        heard = counter("heard")
    }
}
