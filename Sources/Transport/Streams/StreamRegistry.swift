import Model
import Synchronization
import Wire

/// The links of one listener that have several connections, by what the connections call them. Which connection of a link
/// comes first is up to the network.
final class StreamRegistry: Sendable {
    private struct Name: Hashable {
        var peer: NodeName
        var key: StreamKey
    }

    private let entries = Mutex<[Name: IncomingStreams]>([:])

    /// What `link` belongs to, once it said so.
    func streams(of link: any FrameConnection, key: StreamKey) -> IncomingStreams {
        entries.withLock { entries in
            let name = Name(peer: link.peerNode, key: key)
            if let known = entries[name] { return known }
            let made = IncomingStreams()
            entries[name] = made
            return made
        }
    }

    /// `link` ended: what only it belonged to is forgotten.
    func forget(_ link: any FrameConnection, key: StreamKey) {
        entries.withLock { entries in
            let name = Name(peer: link.peerNode, key: key)
            if entries[name]?.isEmpty == true { entries[name] = nil }
        }
    }
}
