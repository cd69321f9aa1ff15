import Model
import NIOCore
import Synchronization
import Transport
import Wire

/// Waits for the one frame that answers a question over a link of its own.
final class PeerReply<Reply: Sendable>: LinkHandler, Sendable {
    /// Why there will be no such frame.
    enum Failure: Sendable {
        case broken(SessionError)
        case closed(LinkError?)
    }

    private struct State {
        var reply: Reply?
        var waiting: CheckedContinuation<Reply, Never>?
    }

    private let state = Mutex(State())
    private let read: @Sendable (FrameHeader, ByteBuffer) throws(SessionError) -> Reply?
    private let failed: @Sendable (Failure) -> Reply

    /// - Parameters:
    ///   - failed: what stands for a reply where none comes.
    ///   - read: nil for a frame that is none.
    init(
        failed: @escaping @Sendable (Failure) -> Reply,
        read: @escaping @Sendable (FrameHeader, ByteBuffer) throws(SessionError) -> Reply?
    ) {
        self.read = read
        self.failed = failed
    }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        do throws(SessionError) {
            if let reply = try read(header, body) { settle(reply) }
        } catch {
            settle(failed(.broken(error)))
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) { settle(failed(.closed(error))) }

    /// The first one counts.
    func settle(_ reply: Reply) {
        let waiting = state.withLock { state -> CheckedContinuation<Reply, Never>? in
            guard state.reply == nil else { return nil }
            state.reply = reply
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume(returning: reply)
    }

    /// Call once. `late` is called after `limit`, and sees to it that there is a reply.
    func wait(_ limit: Duration, late: @escaping @Sendable () -> Void) async -> Reply {
        let timer = Task {
            try await Task.sleep(for: limit)
            late()
        }
        defer { timer.cancel() }
        return await withCheckedContinuation { continuation in
            let reply = state.withLock { state in
                if state.reply == nil { state.waiting = continuation }
                return state.reply
            }
            if let reply { continuation.resume(returning: reply) }
        }
    }
}
