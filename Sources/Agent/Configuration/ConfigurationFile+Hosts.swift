import Fencing
import Model

/// What the file says of other hosts, and of this host's own end.
extension ConfigurationFile {
    func readPeers(_ all: ConfigurationReader, node: NodeName?) -> [NodeName: Configuration.Peer] {
        var all = all
        var peers: [NodeName: Configuration.Peer] = [:]
        for (name, line) in all.names {
            let host = Settings.hostName(name)
            if host == nil { problems.add(line, "“\(name)” in “peers” must be \(Settings.hostNameForm)") }
            if let host, host == node {
                problems.add(line, "“peers.\(name)” is this host itself: list the other hosts only")
            }
            var peer = all.section(name)
            if let found = readPeer(&peer), let host { peers[host] = found }
            peer.finish()
        }
        return peers
    }

    private func readPeer(_ section: inout ConfigurationReader) -> Configuration.Peer? {
        let address = section.required(Settings.Peer.address)
        let second = section.value(Settings.Peer.heartbeatAddress)
        let connections = section.read(Settings.Peer.connections)
        let fence = readFence(&section)
        guard let address else { return nil }
        if second?.host == address.host {
            problems.add(
                section.line,
                "“\(section.path("heartbeat_address"))” must be in another network than “\(section.path("address"))”: two ways"
                    + " over one link fail together")
        }
        return Configuration.Peer(
            address: address, heartbeatAddress: second, connections: connections, fence: fence)
    }

    /// The fence command in a peer's section; nil when there is none, or a problem was noted.
    private func readFence(_ peer: inout ConfigurationReader) -> FenceCommand? {
        let key = Settings.Peer.fence.key
        guard peer.isPresent(key) else { return nil }
        var section = peer.section(key)
        defer { section.finish() }
        let command = Settings.Peer.fenceCommand
        let isPresent = section.isPresent(command.key)
        let words = section.list(command)
        let timeout = section.read(Settings.Peer.fenceTimeout)
        let delay = section.value(Settings.Peer.fenceDelay)
        guard let program = words.first, ConfigurationReader.absolutePath(program) != nil else {
            problems.add(
                section.line,
                "“\(section.path(command.key))” \(isPresent ? "must be" : "is missing: it must be") \(command.expected)"
            )
            return nil
        }
        return FenceCommand(command: words, timeoutMilliseconds: timeout, delayMilliseconds: delay)
    }

    mutating func readWatchdog() -> Configuration.Watchdog? {
        let key = Settings.Watchdog.entry.key
        let isPresent = top.isPresent(key)
        var section = top.section(key)
        defer { section.finish() }
        guard isPresent else { return nil }
        let device = section.required(Settings.Watchdog.device)
        let timeout = section.read(Settings.Watchdog.timeout)
        return device.map { Configuration.Watchdog(device: $0, timeoutSeconds: timeout) }
    }
}
