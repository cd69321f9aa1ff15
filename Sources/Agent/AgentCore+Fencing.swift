import Fencing
import LinuxSystem
import Model
import Telemetry

/// The peers' fence commands: what they are told of the links, and what they tell the journal.
extension AgentCore {
    /// By peer, where one is configured.
    func makeFences() -> [NodeName: PeerFence] {
        let metrics = FencingMetrics(registry: registry)
        var fences: [NodeName: PeerFence] = [:]
        for (name, peer) in configuration.peers {
            guard let command = peer.fence, let peer = NodeName(name) else { continue }
            fences[peer] = PeerFence(
                peer, command: command, from: node, silenceMilliseconds: configuration.detection.silenceMilliseconds,
                lastHeard: { [weak self] in self?.lastHeard(of: name) ?? 0 },
                tell: { [weak self] vm, news, text in
                    self?.note(vm, EventKind(news), text)
                    if case .ended(let ending) = news { metrics.count(ending) }
                })
        }
        return fences
    }

    /// When a session last heard something of that host; 0 when none has a link to it.
    private func lastHeard(of peer: String) -> UInt64 {
        let records = state.withLock { Array($0.vms.values) }
        return records.filter { $0.part.isWith(peer, $0.peer) }.map(\.part.lastHeard).max() ?? 0
    }

    /// A connection with that host was made: it lives.
    func hear(_ peer: String) {
        guard let name = NodeName(peer) else { return }
        fences.withLock { $0[name] }?.hear()
    }
}

extension VMRecord.Part {
    /// Whether its session is with that host; a standby's stays with the one that it began with, `known`.
    fileprivate func isWith(_ peer: String, _ known: String) -> Bool {
        if case .primary(let session) = self { session.standby.description == peer } else { known == peer }
    }

    fileprivate var lastHeard: UInt64 {
        switch self {
        case .primary(let session): session.lastHeard
        case .standby(let session): session.lastHeard
        case .none: 0
        }
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
