import NIOCore

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
