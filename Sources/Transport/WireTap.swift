import Glibc
import NIOCore
import Synchronization

/// What passed over a link's socket, TLS included; written by its event loop, read by anyone.
final class LinkCounters: Sendable {
    let sentBytes = Atomic<UInt64>(0)
    let receivedBytes = Atomic<UInt64>(0)
    /// Of `CLOCK_MONOTONIC`, in nanoseconds.
    let lastReceived = Atomic<UInt64>(0)
    /// The longest time between two arrivals since it was last taken, in nanoseconds.
    let longestGap = Atomic<UInt64>(0)

    var latest: UInt64 { lastReceived.load(ordering: .relaxed) }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}

/// The handler between the socket and TLS: counts, and closes without TLS's ceremony when a link is given up.
final class WireTap: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let counters = LinkCounters()
    private var context: ChannelHandlerContext?

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let now = LinkCounters.now()
        let before = counters.lastReceived.exchange(now, ordering: .relaxed)
        // This loop is the only one that writes.
        if before > 0, now - before > counters.longestGap.load(ordering: .relaxed) {
            counters.longestGap.store(now - before, ordering: .relaxed)
        }
        let count = unwrapInboundIn(data).readableBytes
        counters.receivedBytes.wrappingAdd(UInt64(count), ordering: .relaxed)
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let count = unwrapOutboundIn(data).readableBytes
        counters.sentBytes.wrappingAdd(UInt64(count), ordering: .relaxed)
        context.write(data, promise: promise)
    }

    /// Closes the socket now: what is queued is dropped, no farewell is sent or waited for.
    func abort() { context?.close(mode: .all, promise: nil) }
}
