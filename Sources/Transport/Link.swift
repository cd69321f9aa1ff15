import Model
import NIOCore
import Synchronization
import Wire

/// One authenticated connection to one peer, or several that act as one, carrying frames both ways.
///
/// All functions may be called from any thread, also from the handler's callbacks, except where it says otherwise.
/// What is given to `send` or `enqueue` is one frame, or several in a row, each of them the 32-byte header and its
/// body; the caller computed both checksums. Frames leave in the order of the calls.
public final class Link: FrameConnection, Sendable {
    /// The node that the peer's certificate names.
    public let peerNode: NodeName
    /// `10.0.0.2:7400`, for messages.
    public let peerAddress: String
    let queue: SendQueue
    let counters: LinkCounters
    let channel: any Channel
    /// Its further connections, when it was dialled with several.
    let streams = OutgoingStreams()
    /// What passed over its further connections.
    private let further = Mutex<[LinkCounters]>([])
    private let options: LinkOptions
    /// Touched on the event loop only.
    private let loopBound: NIOLoopBound<LinkChannel>

    init(peerNode: NodeName, peerAddress: String, channel: any Channel, driver: LinkChannel, options: LinkOptions) {
        self.peerNode = peerNode
        self.peerAddress = peerAddress
        self.channel = channel
        self.options = options
        counters = driver.tap.counters
        queue = SendQueue(window: options.windowBytes, reserve: options.controlBytesMax)
        loopBound = NIOLoopBound(driver, eventLoop: channel.eventLoop)
    }

    private func onLoop(_ body: @escaping @Sendable (LinkChannel) -> Void) {
        let loopBound = loopBound
        if channel.eventLoop.inEventLoop {
            body(loopBound.value)
        } else {
            channel.eventLoop.execute { body(loopBound.value) }
        }
    }

    /// Queues a frame and returns at once: for small control frames. False when the link is closed, which the handler
    /// hears too. When the peer takes nothing for so long that more than `controlBytesMax` of these are queued, the link is
    /// closed as stuck.
    @discardableResult
    public func send(_ frame: ByteBuffer) -> Bool {
        switch queue.append(frame, isReserved: true) {
        case .queued:
            return true
        case .mustDrain:
            scheduleDrain()
            return true
        case .overflow(let queuedBytes):
            close(LinkError(peer: peerName, .stuck(queuedBytes: queuedBytes)))
            return false
        case .closed:
            return false
        }
    }

    /// Waits until no more than `windowBytes` would be queued with `count` bytes more, or the link is closed, or `isPressing`
    /// says that the caller cannot wait; it is asked before waiting, and by `lookAgain`. For pipeline threads, before `enqueue`.
    /// A caller on an event loop would wait for itself: that is a defect and traps.
    public func waitForRoom(_ count: Int, unless isPressing: () -> Bool = { false }) {
        if channel.eventLoop.inEventLoop { fatalError("waiting for room on the link's own event loop") }
        queue.waitForRoom(count, unless: isPressing)
    }

    /// Threads in `waitForRoom` ask again whether they may wait.
    public func lookAgain() { queue.lookAgain() }

    /// Queues a frame whose sender waited for room, and returns at once: when it is queued, not when it is sent. Throws when
    /// the link is closed. Frames of two threads that call at once come in either order.
    public func enqueue(_ frame: ByteBuffer) throws(LinkError) {
        guard frame.readableBytes >= OutgoingStreams.frameMin, let (stream, link) = streams.place(total: queuedBytes)
        else {
            return try enqueueHere(frame)
        }
        var turn = ByteBuffer()
        turn.append(FrameHeader.turn(stream: stream))
        try enqueueHere(turn, elsewhere: frame.readableBytes)
        do throws(LinkError) {
            try link.enqueueHere(frame, elsewhere: 0)
        } catch {
            // Its turn is promised: without it nothing more can come.
            close(error)
            throw error
        }
    }

    func enqueueHere(_ frame: ByteBuffer, elsewhere count: Int = 0) throws(LinkError) {
        switch queue.append(frame, isReserved: false, elsewhere: count) {
        case .queued: break
        case .mustDrain: scheduleDrain()
        case .closed(let cause): throw LinkError(peer: peerName, cause)
        case .overflow: fatalError("only reserved frames overflow")
        }
    }

    /// The kernel took `count` bytes of one of the further connections.
    func sentElsewhere(_ count: Int) {
        if queue.sent(count) { onLoop { $0.sentAll() } }
    }

    /// All its further connections ended in order.
    func bidFarewell() { onLoop { $0.bidFarewell() } }

    /// A frame came for which the first connection waits.
    func takeTurn() { onLoop { $0.takeTurn() } }

    /// What passes over one of the further connections counts as this link's from now on.
    func count(_ counters: LinkCounters) { further.withLock { $0.append(counters) } }

    private func sum(_ counter: (LinkCounters) -> UInt64) -> UInt64 {
        further.withLock { $0.reduce(counter(counters)) { $0 + counter($1) } }
    }

    /// As `send(_:)`, for a buffer that the caller uses again at once.
    @discardableResult
    public func send(copying bytes: UnsafeRawBufferPointer) -> Bool { send(ByteBuffer(bytes: bytes)) }

    /// One task per burst: until it runs, further frames are only queued, and then leave with one flush.
    private func scheduleDrain() {
        let loopBound = loopBound
        channel.eventLoop.execute { loopBound.value.drain() }
    }

    /// False once no more frames are taken.
    public var isOpen: Bool { queue.isOpen }

    /// Frames that were given to this link and not yet to the kernel, in bytes, on all of its connections.
    public var queuedBytes: Int { queue.queuedBytes }

    /// Stops the calls of `link(_:received:body:)` before the next frame; the peer's window fills up in turn.
    /// At most what one read brings is kept here meanwhile.
    public func pauseReading() { onLoop { $0.pause() } }
    public func resumeReading() { onLoop { $0.resume() } }

    /// Ends the link. Without a reason orderly: what is queued is sent first and the peer hears a farewell, within
    /// `closeTimeout`. With a reason at once, dropping what is queued. Threads in `waitForRoom` are woken either way,
    /// no further frame is accepted or delivered, and the handler hears `linkClosed` once, with the reason.
    public func close(_ reason: LinkError? = nil) {
        if let reason {
            queue.close(reason.cause)
            onLoop { $0.give(up: reason.cause) }
        } else {
            let idle = queue.finish()
            onLoop { $0.closeOrderly(idle: idle) }
        }
    }

    /// Bytes that passed over the socket, TLS's own included.
    public var bytesSent: UInt64 { sum { $0.sentBytes.load(ordering: .relaxed) } }
    public var bytesReceived: UInt64 { sum { $0.receivedBytes.load(ordering: .relaxed) } }
    /// When bytes last came, in nanoseconds of `CLOCK_MONOTONIC`. It stands still while reading is paused: that is not
    /// the peer's silence.
    public var lastReceived: UInt64 {
        further.withLock { $0.reduce(counters.latest) { max($0, $1.latest) } }
    }

    /// Of how many connections it is made.
    public var connectionCount: Int { further.withLock { 1 + $0.count } }

    /// The kernel's smoothed round-trip time of this connection; nil when the link is closed.
    public func roundTrip() async -> Duration? {
        guard let provider = channel as? any SocketOptionProvider,
            let information = try? await provider.getTCPInfo().get()
        else { return nil }
        return .microseconds(Int64(information.tcpi_rtt))
    }

    /// `beta at 10.0.0.2:7400`, for messages.
    public var peerName: String { "\(peerNode) at \(peerAddress)" }
}
