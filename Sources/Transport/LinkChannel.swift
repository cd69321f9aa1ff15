import NIOCore
import NIOSSL
import NIOTLS
import Synchronization
import Wire

/// The last handler of a link's channel: waits for the approval of the peer, then cuts what comes into frames and
/// writes what is queued. Lives on one event loop.
final class LinkChannel: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What differs between the two ends.
    enum Side {
        case dialer(handler: any LinkHandler, opened: EventLoopPromise<Link>)
        /// `opened` is told whether the dialer called it a further connection of a link.
        case listener(
            opened: (Link, _ isFurther: Bool) -> any LinkHandler, refused: (LinkError) -> Void, streams: StreamRegistry)
    }

    private enum State {
        case handshaking
        /// Dialer only: TLS is up, the listener's approval is awaited.
        case greeting(Link)
        case open(Link, any LinkHandler)
        /// Closed on this side; nothing more is delivered.
        case closing(Link, any LinkHandler)
        case closed
    }

    /// At most this much is encrypted ahead of the socket in one go; it stays in the second-level cache.
    private static let pieceBytes = 256 << 10
    /// After so much the loop turns to its other work, such as reading acknowledgements.
    private static let turnBytes = 1 << 20
    /// What a TLS record holds: frames that fit into one together are joined.
    private static let recordBytes = 16 << 10

    let tap: WireTap
    /// Nil at the end, so that a session that keeps its link does not keep itself.
    private var side: Side?
    private let verdict: PeerVerdict
    private let options: LinkOptions
    private let deadline: (at: NIODeadline, timeout: Duration)
    private var address = "unknown address"
    private var context: ChannelHandlerContext?
    private var state = State.handshaking
    private var decoder = FrameDecoder()
    /// What comes over the link's further connections, and the one whose turn it is.
    private var incoming: (streams: IncomingStreams, key: StreamKey)?
    private var turn: UInt8?
    private var isReading = true
    private var observer: (any SendObserver)?
    private var timer: Scheduled<Void>?
    private var paused = false
    private var pumping = false
    private var draining = false
    private var heardFarewell = false
    private var hasSentAll = false
    /// Set when the link is closed before it is open: whether its queue was empty then.
    private var closeRequest: Bool?
    /// Why the channel closes, once that is known; the first reason counts.
    private var ending: LinkError.Cause?

    init(
        side: Side, tap: WireTap, verdict: PeerVerdict, options: LinkOptions, address: String,
        deadline: (at: NIODeadline, timeout: Duration)
    ) {
        self.side = side
        self.tap = tap
        self.verdict = verdict
        self.options = options
        self.address = address
        self.deadline = deadline
    }

    // MARK: - Opening

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        startTimer(at: deadline.at) { driver in
            let step: LinkError.Step
            switch driver.state {
            case .handshaking: step = driver.context?.channel.isActive == true ? .handshake : .connecting
            case .greeting: step = .greeting
            case .open, .closing, .closed: return
            }
            driver.give(up: .timedOut(step, after: driver.deadline.timeout))
        }
    }

    private func startTimer(at deadline: NIODeadline, _ body: @escaping @Sendable (LinkChannel) -> Void) {
        guard let context else { return }
        timer?.cancel()
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(deadline: deadline) { body(bound.value) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSUserEvent.handshakeCompleted(let negotiated):
            handshakeCompleted(context, isFurther: negotiated == TLS.furtherConnection)
        case TLSUserEvent.shutdownCompleted: heardFarewell = true
        case is MakeRoom:
            // It may have been approved while the event was on its way.
            if case .handshaking = state { give(up: .tooManyUnauthenticated(max: options.unauthenticatedMax)) }
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func handshakeCompleted(_ context: ChannelHandlerContext, isFurther: Bool) {
        guard case .handshaking = state, ending == nil else { return }
        // A resumed TLS session skips the check of the certificate; ours are never resumed, and must not be.
        guard case .success(let node) = verdict.value else {
            give(up: .tls("the handshake ended without a check of the peer's certificate"))
            return
        }
        let link = Link(
            peerNode: node, peerAddress: address, channel: context.channel, driver: self, options: options)
        switch side {
        case .dialer:
            state = .greeting(link)
        case .listener(let opened, _, _):
            timer?.cancel()
            var greeting = context.channel.allocator.buffer(capacity: FrameHeader.size)
            greeting.append(FrameHeader.greeting)
            context.writeAndFlush(wrapOutboundOut(greeting), promise: nil)
            open(link, opened(link, isFurther))
        case nil: break
        }
    }

    private func greeted(_ header: FrameHeader, _ link: Link) throws(LinkError.Cause) {
        guard header.isGreeting else { throw .noGreeting(header.type) }
        guard case .dialer(let handler, let opened) = side else { return }
        timer?.cancel()
        open(link, handler)
        opened.succeed(link)
    }

    private func open(_ link: Link, _ handler: any LinkHandler) {
        state = .open(link, handler)
        observer = handler as? any SendObserver
        // A listener's handler may have closed the link while it was made.
        if let idle = closeRequest { closeOrderly(idle: idle) }
    }

    // MARK: - Receiving

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch state {
        case .closing, .closed: return
        case .handshaking, .greeting, .open: break
        }
        decoder.feed(unwrapInboundIn(data))
        pump()
    }

    /// Delivers the frames that are complete. The handler may pause, resume or close meanwhile.
    private func pump() {
        guard !pumping else { return }
        pumping = true
        defer { pumping = false }
        while ending == nil, !paused {
            do throws(LinkError.Cause) {
                guard let (header, body) = try nextFrame() else { return }
                switch state {
                case .greeting(let link): try greeted(header, link)
                case .open(let link, let handler): handler.link(link, received: header, body: body)
                case .handshaking, .closing, .closed: return
                }
            } catch {
                give(up: error)
                return
            }
        }
    }

    /// The next frame in the order in which they were sent: of this connection, or of the one whose turn it is.
    private func nextFrame() throws(LinkError.Cause) -> (header: FrameHeader, body: ByteBuffer)? {
        while true {
            if let turn, let incoming {
                let frame = try incoming.streams.next(on: turn)
                if frame != nil { self.turn = nil }
                updateReading()
                return frame
            }
            guard let frame = try decoder.next() else { return nil }
            switch frame.header.type {
            case .turn:
                guard incoming != nil, (1...IncomingStreams.countMax).contains(Int(frame.header.sequence)) else {
                    throw .unexpected("a turn frame came over a link of one connection")
                }
                turn = UInt8(frame.header.sequence)
            case .join where incoming == nil:
                guard case .open(let link, let handler) = state, !(handler is StreamInlet) else { return frame }
                try join(link, Join(frame.header, frame.body))
            default: return frame
            }
        }
    }

    /// The dialer says that this is the first connection of several.
    private func join(_ link: Link, _ join: Join) throws(LinkError.Cause) {
        guard case .listener(_, _, let registry) = side, join.stream == 0 else {
            throw .unexpected("a join frame for connection \(join.stream) came over a first connection")
        }
        let streams = registry.streams(of: link, key: join.key)
        guard streams.begin(link) else { throw .unexpected("two first connections of one link came") }
        incoming = (streams, join.key)
    }

    func takeTurn() {
        pump()
        updateReading()
    }

    func pause() {
        guard !paused, ending == nil else { return }
        paused = true
        updateReading()
    }

    func resume() {
        guard paused else { return }
        paused = false
        pump()
        updateReading()
    }

    /// Nothing is read that could not be handed out: what was read would only lie here.
    private func updateReading() {
        let value = !paused && turn == nil
        guard value != isReading else { return }
        isReading = value
        // Fails only on a closed channel, which reads no more anyway.
        try? context?.channel.syncOptions?.setOption(.autoRead, value: value)
    }

    // MARK: - Sending

    func drain() {
        let link: Link
        switch state {
        case .open(let open, _), .closing(let open, _): link = open
        case .handshaking, .greeting, .closed: return
        }
        // Flushing may find the socket writable again and come back here.
        guard !draining, let context else { return }
        draining = true
        defer { draining = false }
        var turn = 0
        while context.channel.isWritable {
            guard turn < Self.turnBytes else { return later { $0.drain() } }
            let count = writePiece(of: link, context)
            guard count > 0 else { return }
            turn += count
        }
        // `channelWritabilityChanged` goes on.
    }

    /// Writes and flushes about `pieceBytes`; 0 when nothing is queued.
    private func writePiece(of link: Link, _ context: ChannelHandlerContext) -> Int {
        var count = 0
        var last: ByteBuffer?
        while count < Self.pieceBytes, var piece = link.queue.next(max: Self.pieceBytes) {
            count += piece.readableBytes
            if let before = last?.readableBytes, before + piece.readableBytes <= Self.recordBytes {
                last?.writeBuffer(&piece)
                continue
            }
            if let last { context.write(wrapOutboundOut(last), promise: nil) }
            last = piece
        }
        guard let last else { return 0 }
        // NIO keeps the promise of the last write when all bytes up to it are with the kernel.
        let promise = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let written = count
        promise.futureResult.whenSuccess {
            bound.value.observer?.sent(written)
            if link.queue.sent(written) { bound.value.sentAll() }
        }
        context.write(wrapOutboundOut(last), promise: promise)
        context.flush()
        return count
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { drain() }
        context.fireChannelWritabilityChanged()
    }

    // MARK: - Closing

    /// Closes at once; nothing is sent or delivered any more.
    func give(up cause: LinkError.Cause) {
        guard ending == nil || ending == .closed else { return }
        ending = cause
        later { $0.tap.abort() }
    }

    func closeOrderly(idle: Bool) {
        guard ending == nil else { return }
        guard case .open(let link, let handler) = state else {
            closeRequest = idle
            return
        }
        ending = .closed
        state = .closing(link, handler)
        // The peer's farewell must be read, whatever stands before it.
        paused = false
        turn = nil
        updateReading()
        startTimer(at: .now() + TimeAmount(options.closeTimeout)) { $0.tap.abort() }
        if idle || link.queue.queuedBytes == 0 { later { $0.sentAll() } }
    }

    /// In a turn of its own: closing calls the session's `linkClosed`, which must not happen inside another of its
    /// functions.
    private func later(_ body: @escaping @Sendable (LinkChannel) -> Void) {
        guard let context else { return }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.execute { body(bound.value) }
    }

    /// Over the first connection the farewell follows what went over the others, which end first.
    func sentAll() {
        // What is sent before the close is under way here is noticed by it.
        guard case .closing(let link, _) = state, !hasSentAll else { return }
        hasSentAll = true
        link.streams.finish { link.bidFarewell() }
    }

    func bidFarewell() { context?.close(mode: .all, promise: nil) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if case NIOSSLError.uncleanShutdown = error {
            // Comes just before `channelInactive`, which finds its own words for it.
            return
        }
        guard ending == nil else { return }
        let cause = LinkError.Cause(error, verdict: verdict.value)
        ending = cause
        // After a failed handshake the TLS handler closes by itself, behind the alert that it sends.
        if case NIOSSLError.handshakeFailed = error { return }
        tap.abort()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        // What the other connections brought before this one's farewell still has its turn.
        if turn != nil { pump() }
        let link: Link?
        switch state {
        case .handshaking, .closed: link = nil
        case .greeting(let open), .open(let open, _), .closing(let open, _): link = open
        }
        var cause = ending ?? endOfStream
        if let link, cause == .closed, link.queuedBytes > 0 { cause = .stuck(queuedBytes: link.queuedBytes) }
        let error = LinkError(peer: link?.peerName ?? address, cause)
        link?.queue.close(cause)
        link?.streams.abort()
        endIncoming(link)
        let (last, side) = (state, self.side)
        state = .closed
        self.side = nil
        switch (last, side) {
        case (.open(let link, let handler), _), (.closing(let link, let handler), _):
            handler.linkClosed(link, error: cause == .closed ? nil : error)
        case (.handshaking, .dialer(_, let opened)), (.greeting, .dialer(_, let opened)): opened.fail(error)
        case (.handshaking, .listener(_, let refused, _)), (.greeting, .listener(_, let refused, _)): refused(error)
        case (.closed, _), (_, nil): break
        }
        context.fireChannelInactive()
    }

    private func endIncoming(_ link: Link?) {
        observer = nil
        guard let (streams, key) = incoming.take(), let link else { return }
        streams.end()
        if case .listener(_, _, let registry) = side { registry.forget(link, key: key) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        timer?.cancel()
        // A channel that never became active: nobody else would keep the promise.
        if case .handshaking = state, case .dialer(_, let opened) = side {
            state = .closed
            self.side = nil
            opened.fail(LinkError(peer: address, ending ?? .lost("the socket closed before the handshake")))
        }
    }

    private var endOfStream: LinkError.Cause {
        switch state {
        case .handshaking, .greeting: .lost("it closed the connection during the handshake")
        case .open, .closing, .closed:
            if !paused, turn != nil || !decoder.isBetweenFrames {
                .truncated
            } else if heardFarewell {
                .closedByPeer
            } else {
                .lost("it ended without a farewell")
            }
        }
    }
}

/// Tells the oldest connection that waits for approval to make room for a newer one.
struct MakeRoom: Sendable {}

extension ByteBuffer {
    /// Appends an encoded header.
    mutating func append(_ header: FrameHeader) {
        writeWithUnsafeMutableBytes(minimumWritableBytes: FrameHeader.size) { raw in
            header.write(into: UnsafeMutableRawBufferPointer(rebasing: raw[..<FrameHeader.size]))
            return FrameHeader.size
        }
    }
}
