import NIOCore
import Synchronization
import Wire

/// The listener's end of one of the further connections: its first frame tells which link it belongs to.
final class StreamInlet: LinkHandler {
    private struct Place {
        var streams: IncomingStreams
        var join: Join
    }

    private let registry: StreamRegistry
    private let timeout: Duration
    private let place = Mutex<Place?>(nil)

    /// `timeout` is how long it may take until the link that it belongs to has its first connection.
    init(registry: StreamRegistry, timeout: Duration) {
        self.registry = registry
        self.timeout = timeout
    }

    /// Ends a connection that belongs to nothing in time. Called once, on the event loop.
    func watch(_ link: Link) {
        link.channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) { [self] in
            if place.withLock({ $0?.streams.hasBegun }) != true {
                link.close(LinkError(peer: link.peerName, .unexpected("a further connection of no link came")))
            }
        }
    }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        if let place = place.withLock({ $0 }) { return place.streams.received(header, body, on: place.join.stream) }
        do throws(LinkError.Cause) {
            let join = try Join(header, body)
            let streams = registry.streams(of: link, key: join.key)
            place.withLock { $0 = Place(streams: streams, join: join) }
            if let cause = streams.add(link, as: join.stream) {
                place.withLock { $0 = nil }
                throw cause
            }
        } catch {
            link.close(LinkError(peer: link.peerName, error))
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) {
        guard let place = place.withLock({ $0.take() }) else { return }
        place.streams.ended(place.join.stream, error: error)
        registry.forget(link, key: place.join.key)
    }
}
