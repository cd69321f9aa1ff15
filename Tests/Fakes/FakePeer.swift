import LinuxSystem
import NIOCore
import PKI
import Transport
import Wire

/// The other end of a link that notes the frames that come, over TLS on loopback, and says nothing.
public final class FakePeer: LinkHandler, Sendable {
    public struct Frame: Sendable {
        public let header: FrameHeader
        public let body: [UInt8]
    }

    private final class Silent: LinkHandler {
        func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {}
        func linkClosed(_ link: Link, error: LinkError?) {}
    }

    private let noted = Monitor<[Frame]>([])

    private init() {}

    /// What came so far, in order.
    public var frames: [Frame] { noted.look { $0 } }

    /// Waits until so many frames have come, and returns all that have.
    public func await(frames count: Int) -> [Frame] {
        noted.await { $0.count >= count }
        return frames
    }

    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        noted.change { $0.append(Frame(header: header, body: Array(body.readableBytesView))) }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {}

    /// Runs `body` with a link to such a peer.
    public static func with(_ body: (Link, FakePeer) throws -> Void) async throws {
        let peer = FakePeer()
        let listener = try await LinkListener.start(
            host: "127.0.0.1", port: 0, identity: FakeNodes.identity(FakeNodes.standby), allowed: [FakeNodes.primary],
            group: FakeNodes.group, refused: { _ in }, makeHandler: { _ in peer })
        do {
            let link = try await LinkDialer.connect(
                host: "127.0.0.1", port: listener.port, identity: FakeNodes.identity(FakeNodes.primary),
                expectedPeer: FakeNodes.standby, timeout: .seconds(10), group: FakeNodes.group, handler: Silent())
            defer { link.close() }
            try body(link, peer)
        } catch {
            await listener.shutdown()
            throw error
        }
        await listener.shutdown()
    }
}
