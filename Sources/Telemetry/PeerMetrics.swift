import Model

/// What is measured of the second path to another host, whether there is one or not.
public struct PeerMetrics: Sendable {
    /// 1 while the other host is heard over it.
    public let secondPathUp: Gauge
    /// From a heartbeat to its answer.
    public let secondPathRTT: Histogram

    public init(peer: NodeName, registry: Registry) {
        secondPathUp = registry.gauge(Families.secondPathUp, [Label("peer", peer.description)])
        secondPathRTT = registry.histogram(Families.secondPathRTT, [Label("peer", peer.description)])
    }
}
