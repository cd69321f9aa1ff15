import Journal
import Logging
import NIOPosix
import PKI
import Pair
import RomulusAPI
import Telemetry
import Transport

/// The second way to each peer's host.
extension AgentCore {
    static func secondPaths(
        _ configuration: Configuration, _ identity: TLSIdentity, _ group: MultiThreadedEventLoopGroup,
        _ journal: EventJournal, _ registry: Registry, _ log: Logger
    ) -> [String: SecondPath] {
        var paths: [String: SecondPath] = [:]
        for (peer, settings) in configuration.peers {
            let metrics = PeerMetrics(peer: peer, registry: registry)
            var dial: SecondPath.Dial?
            if let address = settings.heartbeatAddress {
                dial = { (handler) async throws(LinkError) in
                    try await LinkDialer.connect(
                        host: address.host, port: address.port, identity: identity, expectedPeer: peer,
                        timeout: .seconds(2), group: group, handler: handler)
                }
            }
            paths[peer] = SecondPath(
                to: peer, node: configuration.node, software: "romulus \(Romulus.version)",
                interval: configuration.detection.heartbeatMilliseconds,
                floor: configuration.detection.silenceFloorMilliseconds,
                ceiling: configuration.detection.silenceMilliseconds, dial: dial
            ) { report in
                let text: String
                switch report {
                case .roundTrip(let nanoseconds): return metrics.secondPathRTT.observe(nanoseconds: nanoseconds)
                case .up:
                    metrics.secondPathUp.set(1)
                    text = "\(peer) is heard over the second path"
                case .down(let reason):
                    metrics.secondPathUp.set(0)
                    text = "\(peer) is not heard over the second path any more: \(reason)"
                }
                log.info("\(text)")
                _ = journal.append(.session, text)
            }
        }
        return paths
    }
}
