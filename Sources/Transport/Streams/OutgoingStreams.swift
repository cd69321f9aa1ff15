import NIOCore
import Synchronization
import Wire

/// The further connections of a link that was dialled with several: large frames are spread over all of them.
///
/// A frame goes where the fewest bytes wait. On the first connection, `turn` stands in its place, so that the other end
/// hands frames out in the order of the calls, whichever connection is faster. When one connection ends, all do.
final class OutgoingStreams: Sendable {
    private struct State {
        var links: [any FrameConnection] = []
        var openCount = 0
        var isEnding = false
        var whenEnded: (@Sendable () -> Void)?
    }

    /// Smaller frames are not worth a `turn` and the wait for it.
    static let frameMin = 32 << 10

    private let isUsed = Atomic<Bool>(false)
    private let state = Mutex(State())

    /// Takes `link` as connection number `links.count + 1`.
    func add(_ link: any FrameConnection) {
        state.withLock {
            $0.links.append(link)
            $0.openCount += 1
        }
        isUsed.store(true, ordering: .releasing)
    }

    /// Where a large frame goes, unless that is the first connection. `total` is what waits on all of them, in bytes.
    func place(total: Int) -> (stream: UInt8, link: any FrameConnection)? {
        guard isUsed.load(ordering: .acquiring) else { return nil }
        return state.withLock { state in
            var others = 0
            var best: (index: Int, bytes: Int)?
            for (index, link) in state.links.enumerated() {
                let bytes = link.queuedBytes
                others += bytes
                if bytes < best?.bytes ?? .max { best = (index, bytes) }
            }
            guard let best, best.bytes < total - others else { return nil }
            return (UInt8(best.index + 1), state.links[best.index])
        }
    }

    /// Connection `link` ended. False when that was not asked for.
    func ended() -> Bool {
        let (isExpected, whenEnded) = state.withLock { state in
            state.openCount -= 1
            return (state.isEnding, state.openCount == 0 ? state.whenEnded.take() : nil)
        }
        whenEnded?()
        return isExpected
    }

    /// Ends all connections in order, and calls `then` when the other end has read all that was sent on them.
    func finish(_ then: @escaping @Sendable () -> Void) {
        let links = state.withLock { state -> [any FrameConnection] in
            state.isEnding = true
            if state.openCount > 0 { state.whenEnded = then }
            return state.openCount > 0 ? state.links : []
        }
        if links.isEmpty { then() }
        for link in links { link.close(nil) }
    }

    /// Ends all connections at once.
    func abort() {
        let links = state.withLock { state -> [any FrameConnection] in
            state.isEnding = true
            state.whenEnded = nil
            defer { state.links = [] }
            return state.links
        }
        for link in links { link.close(LinkError(peer: link.peerName, .closed)) }
    }
}
