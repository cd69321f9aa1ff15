/// The series of a witness.
public struct WitnessMetrics: Sendable {
    public let reads: Counter
    public let changes: Counter
    public let conflicts: Counter
    public let amnesic: Counter
    public let failed: Counter
    public let denied: Counter
    public let refusedLinks: Counter
    public let vms: Gauge
    public let logBytes: Gauge

    public init(registry: Registry) {
        func requests(_ outcome: String) -> Counter {
            registry.counter(Families.witnessRequests, [Label("outcome", outcome)])
        }
        reads = requests("read")
        changes = requests("applied")
        conflicts = requests("conflict")
        amnesic = requests("amnesic")
        failed = requests("failed")
        denied = requests("denied")
        refusedLinks = registry.counter(Families.witnessRefusedLinks)
        vms = registry.gauge(Families.witnessVMs)
        logBytes = registry.gauge(Families.witnessLogBytes)
    }
}
