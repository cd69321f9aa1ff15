/// Links between two agents: TLS 1.3 over TCP with both certificates checked, carrying frames. There is no plain mode.
///
/// Owns: the sockets, the handshake, the check of who the peer is, the queue of frames to be sent, and the cutting of
/// the received bytes into checked frames. It does not know what frames mean; sessions are made above it.
///
/// May call: NIO and NIOSSL, PKI for the verdict on a peer's certificate, Wire for the frame header and its checksums.
///
/// How a link comes about. The dialer connects; TLS 1.3 runs with a certificate demanded from both sides; each side
/// asks its `TLSIdentity` about the other's certificate, and compares the node named there: the dialer with the one
/// node that it expects, the listener with the nodes that it allows. TLS 1.3 lets a dialer finish its handshake before
/// the listener has judged the dialer's certificate; therefore the listener then sends one `heartbeat` frame
/// without a body, the *greeting*, and `LinkDialer.connect` returns only when that has come. What is sent after it
/// belongs to the session.
///
/// Several connections. A dialer may give a link up to eight (`LinkDialer.connect(connections:)`); who uses it sees one.
/// `Streams/` spreads frames over them and puts them in order again.
///
/// Threads. Every link lives on one event loop of the group that it was given, its further connections on others; its handler is called there, in order,
/// and must not block. The threads that ship wait with `waitForRoom` while the link is behind, and send with `enqueue`.
import NIOCore
import Wire

/// Bounds and deadlines of a link.
public struct LinkOptions: Sendable {
    /// `waitForRoom` waits rather than let more than this many bytes be queued unsent. A frame longer than it is
    /// queued alone.
    public var windowBytes = 8 << 20
    /// What `send` may queue besides before the link counts as stuck and is closed.
    public var controlBytesMax = 8 << 20
    /// From the TCP connection being accepted to the peer's certificate being approved (listener only; a dialer gives
    /// its own timeout).
    public var handshakeTimeout = Duration.seconds(5)
    /// Accepted connections that may be waiting for approval at once; the oldest of them makes room for a newer one.
    public var unauthenticatedMax = 8
    /// How long an orderly close may take to send what is queued and to hear the peer's farewell.
    public var closeTimeout = Duration.seconds(1)

    public init() {}
}

/// What a session is told by its link. Both functions are called on the link's event loop and must not block.
public protocol LinkHandler: AnyObject, Sendable {
    /// A complete frame, in the order in which it was sent; the checksums of header and body are right, and the body
    /// is not longer than its type allows. The body has storage of its own and may be kept.
    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer)

    /// The last call for this link, never made from within another. `error` is nil after an orderly `close()` on this
    /// side that sent all that was queued.
    func linkClosed(_ link: Link, error: LinkError?)
}

extension FrameHeader {
    /// The frame that a listener sends when it has approved the peer.
    static var greeting: FrameHeader {
        FrameHeader(type: .heartbeat, length: 0, epoch: 0, sequence: 0, bodyCRC: 0)
    }
    /// A session's heartbeat has a body, so it cannot be taken for this.
    var isGreeting: Bool { type == .heartbeat && length == 0 }
}
