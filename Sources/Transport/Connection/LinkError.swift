import Model
import PKI
import Wire

/// Why a link could not be made, or ended. The description is one sentence: with whom, what, and the way out.
public struct LinkError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The other end as the operator knows it: `10.0.0.2:7400`, or `beta at 10.0.0.2:7400` once that was proven.
    public let peer: String
    public let cause: Cause

    public init(peer: String, _ cause: Cause) {
        self.peer = peer
        self.cause = cause
    }

    public enum Step: String, Sendable { case connecting, handshake, greeting }

    public enum Cause: Error, Equatable, Sendable {
        // No connection.
        case refused
        case unreachable(String)
        case unresolved(String)
        case timedOut(Step, after: Duration)
        case cancelled
        case cannotListen(String)

        // No trust.
        case peerCertificate(PeerRefusal)
        case wrongPeer(expected: NodeName, found: NodeName)
        case notAllowed(node: NodeName)
        /// The peer refused us, in TLS's own words.
        case refusedByPeer(String)
        case tlsVersion
        case notTLS
        case tls(String)
        case tooManyUnauthenticated(max: Int)

        // Wrong bytes from a peer that was approved.
        case version(ours: UInt8, theirs: UInt8)
        case header(WireError)
        case body(FrameType, epoch: UInt64, sequence: UInt32)
        case noGreeting(FrameType)
        /// The stream ended inside a frame.
        case truncated
        /// A frame that this kind of link does not carry, as half a sentence.
        case unexpected(String)

        // Silence.
        case noAnswer(within: Duration)

        // The end.
        case closed
        case closedByPeer
        case lost(String)
        case stuck(queuedBytes: Int)
    }

    public var description: String { "link with \(peer): \(cause)" }
}

extension LinkError.Cause: CustomStringConvertible {
    public var description: String {
        switch self {
        case .refused:
            "nothing listens there: start romulusd on that host, or correct the address and port"
        case .unreachable(let reason):
            "it cannot be reached (\(reason)): check the route, the firewall and the address"
        case .unresolved(let reason):
            "the host name has no address (\(reason)): correct it, or use the address itself"
        case .timedOut(.connecting, let duration):
            "no answer within \(duration): check that the host is up and that its firewall lets this port through"
        case .timedOut(.handshake, let duration):
            "the TLS handshake was not finished within \(duration): check that a romulusd answers there, or try again"
        case .timedOut(.greeting, let duration):
            "it did not confirm the connection within \(duration): see its log, or try again"
        case .cancelled:
            "the attempt was given up"
        case .cannotListen(let reason):
            "cannot listen there (\(reason)): choose another address or port, or stop what uses it"
        case .peerCertificate(let refusal):
            refusal.description
        case .wrongPeer(let expected, let found):
            "“\(found)” answers where “\(expected)” is expected: correct the address or the configured node name"
        case .notAllowed(let node):
            "“\(node)” has a certificate of our authority but is not among this host's peers: add it to the "
                + "configuration if it should be"
        case .refusedByPeer(let reason):
            "it refused our certificate (\(reason)): see its log; both certificates must come from the same authority, "
                + "be valid now, and this node must be among its peers"
        case .tlsVersion:
            "the other side does not speak TLS 1.3: update what runs there"
        case .notTLS:
            "what came is not TLS: only romulusd may speak to this port"
        case .tls(let reason):
            "TLS failed: \(reason)"
        case .tooManyUnauthenticated(let max):
            "more than \(max) connections waited for approval and this was the oldest: see who else dials this port"
        case .version(let ours, let theirs):
            "it speaks version \(theirs) of the link protocol and this agent version \(ours): run the same release on "
                + "both hosts"
        case .header(let error):
            "\(error)"
        case .body(let type, let epoch, let sequence):
            "the body of frame \(sequence) (\(type), epoch \(epoch)) does not match its checksum: the link is given up "
                + "and made anew; if that repeats, test the memory of both hosts"
        case .noGreeting(let type):
            "it began with a \(type) frame instead of the greeting: run the same release on both hosts"
        case .truncated:
            "the stream ended inside a frame: its agent or the connection died"
        case .unexpected(let what):
            "\(what): run the same release on both machines"
        case .noAnswer(let duration):
            "it did not answer within \(duration): see its log, and the network in between"
        case .closed:
            "it was closed on this side"
        case .closedByPeer:
            "it was closed by the other side"
        case .lost(let reason):
            "the connection was lost (\(reason)): its agent, its host or the network in between died"
        case .stuck(let queuedBytes):
            "\(queuedBytes) bytes are queued and the other side takes none: the link is given up and made anew"
        }
    }
}
