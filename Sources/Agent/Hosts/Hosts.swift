import Fencing
import Journal
import LinuxSystem
import Logging
import Model
import NIOCore
import PKI
import Pair
import RomulusAPI
import Synchronization
import Telemetry
import Transport

/// The other hosts: where each one is reached, its second path, its fence, and that it was heard.
package final class Hosts: Sendable {
    private struct State {
        var hosts: [NodeName: Host] = [:]
        /// Second paths are dialled.
        var isStarted = false
    }

    /// What is told to others of this program.
    static let software = "romulus \(Romulus.version)"

    let node: NodeName
    let identity: TLSIdentity
    let group: any EventLoopGroup
    private let state = Mutex(State())
    private let detection: Configuration.Detection
    private let registry: Registry
    private let fencing: FencingMetrics
    private let chronicle: Chronicle

    package init(
        node: NodeName, identity: TLSIdentity, group: any EventLoopGroup, detection: Configuration.Detection,
        registry: Registry, chronicle: Chronicle
    ) {
        self.node = node
        self.identity = identity
        self.group = group
        self.detection = detection
        self.registry = registry
        self.chronicle = chronicle
        fencing = FencingMetrics(registry: registry)
    }

    // MARK: - Who is there

    package subscript(name: NodeName) -> Host? { state.withLock { $0.hosts[name] } }

    /// In alphabetical order.
    package var names: [NodeName] { state.withLock { $0.hosts.keys.sorted() } }

    /// The fences of those that have one.
    package var fences: [NodeName: PeerFence] { byNode(\.fence) }

    package var secondPaths: [NodeName: SecondPath] { byNode(\.secondPath) }

    private func byNode<Part>(_ part: (Host) -> Part?) -> [NodeName: Part] {
        let hosts = state.withLock { Array($0.hosts.values) }
        return hosts.reduce(into: [:]) { parts, host in
            if let part = part(host) { parts[host.name] = part }
        }
    }

    /// What to say of a name that is none of them.
    package func unknown(_ name: NodeName) -> APIError {
        let known = names.map(\.description).joined(separator: ", ")
        return APIError(.noSuchPeer, "there is no peer “\(name)” in the configuration (known: \(known))")
    }

    /// Who would take over; nil when nobody is named and there is more or less than one.
    package func usualPeer(_ named: NodeName?) throws(APIError) -> NodeName? {
        let names = names
        guard let named else { return names.count == 1 ? names.first : nil }
        guard names.contains(named) else { throw unknown(named) }
        return named
    }

    // MARK: - Coming and going

    /// A host comes, or comes anew with other settings. Sessions that are there keep what they have of an older one, and so
    /// does a listener, which lets in those that were there when it began.
    package func add(_ name: NodeName, _ settings: Configuration.Peer) throws(SystemError) {
        let host = Host(
            name: name, settings: settings, secondPath: secondPath(to: name, settings), fence: fence(of: name, settings)
        )
        let (older, isStarted) = state.withLock { ($0.hosts.updateValue(host, forKey: name), $0.isStarted) }
        older?.secondPath.stop()
        if isStarted { try host.secondPath.start() }
    }

    /// A host goes; nothing happens where it is not there.
    package func remove(_ name: NodeName) {
        state.withLock { $0.hosts.removeValue(forKey: name) }?.secondPath.stop()
    }

    /// Begins to watch them over their second paths.
    package func start() throws(SystemError) {
        let hosts = state.withLock { state in
            state.isStarted = true
            return Array(state.hosts.values)
        }
        for host in hosts { try host.secondPath.start() }
    }

    package func stop() {
        let hosts = state.withLock { state in
            state.isStarted = false
            return Array(state.hosts.values)
        }
        for host in hosts { host.secondPath.stop() }
    }

    private func secondPath(to peer: NodeName, _ settings: Configuration.Peer) -> SecondPath {
        let metrics = PeerMetrics(peer: peer, registry: registry)
        var dial: SecondPath.Dial?
        if let address = settings.heartbeatAddress {
            dial = { [identity, group] (handler) async throws(LinkError) in
                try await LinkDialer.connect(
                    host: address.host, port: address.port, identity: identity, expectedPeer: peer,
                    timeout: .seconds(2), group: group, handler: handler)
            }
        }
        return SecondPath(
            to: peer, node: node, software: Self.software,
            interval: detection.heartbeatMilliseconds, floor: detection.silenceFloorMilliseconds,
            ceiling: detection.silenceMilliseconds, dial: dial
        ) { [log = chronicle.log, journal = chronicle.journal] report in
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

    private func fence(of peer: NodeName, _ settings: Configuration.Peer) -> PeerFence? {
        guard let command = settings.fence else { return nil }
        return PeerFence(
            peer, command: command, from: node, silenceMilliseconds: detection.silenceMilliseconds,
            lastHeard: { [roster = chronicle.roster] in roster.lastHeard(of: peer) },
            tell: { [chronicle, fencing] vm, news, text in
                chronicle.note(vm, EventKind(news), text)
                if case .ended(let ending) = news { fencing.count(ending) }
            })
    }

    // MARK: - Links

    /// A connection with that host was made: it lives.
    func hear(_ name: NodeName) { self[name]?.fence?.hear() }

    /// Opens a link to that host.
    func dial(
        _ host: Host, within timeout: Duration, connections: Int = 1, _ handler: any LinkHandler
    ) async throws(LinkError) -> Link {
        try await LinkDialer.connect(
            host: host.settings.address.host, port: host.settings.address.port, identity: identity,
            expectedPeer: host.name, timeout: timeout, group: group, connections: connections, handler: handler)
    }

    /// Opens the link to a node that is to be a standby; blocks.
    package func connect(to node: NodeName, _ handler: any LinkHandler) throws(SessionError) -> Link {
        guard let host = self[node] else {
            throw SessionError(.peerLost, "there is no peer “\(node)” in the configuration")
        }
        let link = try blocking { [self] () async throws(SessionError) in
            do throws(LinkError) {
                return try await dial(
                    host, within: .seconds(10), connections: host.settings.connections, handler)
            } catch {
                throw SessionError(.peerLost, "\(error)")
            }
        }
        hear(node)
        return link
    }
}

extension EventKind {
    fileprivate init(_ news: PeerFence.News) {
        self =
            switch news {
            case .started: .fencingAsked
            case .ended(.confirmed): .fencingConfirmed
            case .ended: .fencingFailed
            }
    }
}

extension FencingMetrics {
    fileprivate func count(_ ending: PeerFence.Ending) {
        switch ending {
        case .confirmed: confirmed.add()
        case .failed: failed.add()
        case .tookTooLong: late.add()
        case .heard: heard.add()
        }
    }
}
