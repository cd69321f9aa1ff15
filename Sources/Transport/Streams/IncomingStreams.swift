import NIOCore
import Synchronization
import Wire

/// What came over the further connections of one link and has not had its turn.
///
/// The first connection asks for frames, on its own event loop, in the order of its `turn` frames. A connection that is ahead
/// of its turn by `aheadMax` bytes is not read until they were taken.
final class IncomingStreams: Sendable {
    private struct Inlet {
        var link: any FrameConnection
        var frames = CircularBuffer<(header: FrameHeader, body: ByteBuffer)>()
        var bytes = 0
        var isPaused = false
        var hasEnded = false
    }

    private struct State {
        var first: (any FrameConnection)?
        var inlets: [UInt8: Inlet] = [:]
        /// The connection whose next frame is waited for.
        var awaited: UInt8?
        var hasEnded = false
    }

    /// The further connections of one link.
    static let countMax = 7
    static let aheadMax = 4 << 20

    private let state = Mutex(State())

    /// False when there is a first connection already.
    func begin(_ first: any FrameConnection) -> Bool {
        let links = state.withLock { state -> [any FrameConnection]? in
            guard state.first == nil else { return nil }
            state.first = first
            return state.inlets.values.map(\.link)
        }
        guard let links else { return false }
        for link in links { first.count(link.counters) }
        return true
    }

    var hasBegun: Bool { state.withLock { $0.first != nil } }

    /// Nil when `link` is taken as connection `stream`, else why not.
    func add(_ link: any FrameConnection, as stream: UInt8) -> LinkError.Cause? {
        let (first, isTaken) = state.withLock { state -> ((any FrameConnection)?, Bool) in
            guard (1...Self.countMax).contains(Int(stream)), state.inlets[stream] == nil, !state.hasEnded else {
                return (nil, false)
            }
            state.inlets[stream] = Inlet(link: link)
            return (state.first, true)
        }
        guard isTaken else { return .unexpected("connection \(stream) of a link came that cannot have it") }
        first?.count(link.counters)
        return nil
    }

    /// A frame came on connection `stream`; called on its event loop.
    func received(_ header: FrameHeader, _ body: ByteBuffer, on stream: UInt8) {
        let (awaiting, ahead) = state.withLock { state -> ((any FrameConnection)?, (any FrameConnection)?) in
            guard !state.hasEnded, var inlet = state.inlets[stream] else { return (nil, nil) }
            inlet.frames.append((header, body))
            inlet.bytes += body.readableBytes
            let isAhead = !inlet.isPaused && inlet.bytes > Self.aheadMax
            if isAhead { inlet.isPaused = true }
            state.inlets[stream] = inlet
            let isAwaited = state.awaited == stream
            if isAwaited { state.awaited = nil }
            return (isAwaited ? state.first : nil, isAhead ? inlet.link : nil)
        }
        ahead?.pauseReading()
        awaiting?.takeTurn()
    }

    /// The next frame of connection `stream`; nil when it has not come, and then the first connection is told when it has.
    func next(on stream: UInt8) throws(LinkError.Cause) -> (header: FrameHeader, body: ByteBuffer)? {
        var behind: (any FrameConnection)?
        let next = state.withLock { state -> Result<(header: FrameHeader, body: ByteBuffer)?, LinkError.Cause> in
            guard let frame = state.inlets[stream]?.frames.popFirst() else {
                if state.inlets[stream]?.hasEnded == true {
                    return .failure(.lost("one of its connections ended early"))
                }
                state.awaited = stream
                return .success(nil)
            }
            state.inlets[stream]?.bytes -= frame.body.readableBytes
            if let inlet = state.inlets[stream], inlet.isPaused, inlet.bytes <= Self.aheadMax / 2 {
                state.inlets[stream]?.isPaused = false
                behind = inlet.link
            }
            return .success(frame)
        }
        behind?.resumeReading()
        return try next.get()
    }

    /// Connection `stream` ended. In order, that is fine when all that it brought has its turn, which the first one finds out.
    func ended(_ stream: UInt8, error: LinkError?) {
        let isOrderly = error?.cause == .closedByPeer
        let first = state.withLock { state -> (any FrameConnection)? in
            let isMissed = state.awaited == stream
            if isOrderly, !isMissed, state.first != nil {
                state.inlets[stream]?.hasEnded = true
            } else {
                state.inlets[stream] = nil
            }
            return isOrderly && !isMissed ? nil : state.first
        }
        if let first { first.close(LinkError(peer: first.peerName, error?.cause ?? .closed)) }
    }

    /// The first connection ended, and so do the others.
    func end() {
        let links = state.withLock { state -> [any FrameConnection] in
            state.hasEnded = true
            state.first = nil
            defer { state.inlets = [:] }
            return state.inlets.values.map(\.link)
        }
        for link in links { link.close(LinkError(peer: link.peerName, .closed)) }
    }

    /// Nobody holds on to it any more.
    var isEmpty: Bool { state.withLock { $0.first == nil && $0.inlets.isEmpty } }
}
