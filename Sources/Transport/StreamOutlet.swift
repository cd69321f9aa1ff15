import NIOCore
import Wire

/// What one of the further connections reports to the link that it belongs to.
final class StreamOutlet: LinkHandler, SendObserver {
    private let link: Link

    init(of link: Link) { self.link = link }

    func sent(_ count: Int) { link.sentElsewhere(count) }

    func link(_ stream: Link, received header: FrameHeader, body: ByteBuffer) {
        let cause = LinkError.Cause.unexpected("a \(header.type) frame came over a further connection")
        stream.close(LinkError(peer: stream.peerName, cause))
    }

    func linkClosed(_ stream: Link, error: LinkError?) {
        guard !link.streams.ended() else { return }
        link.close(error ?? LinkError(peer: link.peerName, .lost("one of its connections ended")))
    }
}
