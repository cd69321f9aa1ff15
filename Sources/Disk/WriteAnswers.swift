import Shipping
import Storage
import Synchronization

/// What the standby of one session has taken of the guest's writes, at a level at which a write is done only when both
/// hosts have it; and the writes that wait for that.
///
/// They are answered on the link's thread, and on that of whoever decides. Who goes on is decided elsewhere: this knows counts
/// only.
package final class WriteAnswers: Sendable {
    private enum End {
        case released, closed
    }

    private struct Waiting {
        var ticket: DiskTicket
        var cookie: UInt64
        var replies: any LaterReplies
    }

    private struct State {
        /// Whose through frames they are; nil before there are any.
        var sender: FrameSender?
        /// A write is done when the standby has taken it.
        var isWaitedFor = false
        var taken: UInt64 = 0
        /// What a ticket was given for that has not come true, whether it is asked for by now or not.
        var waiting = 0
        var asked: [Waiting] = []
        var end: End?

        func isOver(_ ticket: DiskTicket) -> Bool { end != nil || taken >= ticket.number }

        mutating func takeOver() -> [Waiting] {
            let over = asked.filter { isOver($0.ticket) }
            guard !over.isEmpty else { return [] }
            asked = asked.filter { !isOver($0.ticket) }
            waiting -= over.count
            return over
        }
    }

    /// The ticket of a write that could not be queued whole: no standby takes it.
    private static let never = DiskTicket(.max)

    private let state = Mutex(State())

    package init() {}

    // MARK: - What the session says

    /// From here on a write is done when the standby has taken it. `sender` sends through frames by now, and the guest
    /// stands still.
    package func begin(with sender: FrameSender) { state.withLock { ($0.sender, $0.isWaitedFor) = (sender, true) } }

    /// From here on a write waits for nothing again. None is under way.
    package func pause() { state.withLock { $0.isWaitedFor = false } }

    /// The standby has taken so many of the through frames. False when that is more than were sent, or less than it said
    /// before.
    package func take(_ count: UInt64) -> Bool {
        let isRight = state.withLock { state in
            guard let sender = state.sender, count >= state.taken, count <= sender.throughFrames else { return false }
            state.taken = count
            return true
        }
        settle()
        return isRight
    }

    /// The standby is waited for no more: all that wait are done, and all that follow. For a guest that goes on alone;
    /// nothing ends that.
    package func release() { end(.released) }

    /// The guest is gone: all that wait fail, and all that follow, unless they were released. Never while QEMU lives and
    /// nothing was released: a write whose copy failed is done for it, and so for the guest.
    package func close() { end(.closed) }

    private func end(_ end: End) {
        state.withLock { $0.end = $0.end ?? end }
        settle()
    }

    /// Writes and flushes of the guest that wait for the standby.
    package var waiting: Int { state.withLock(\.waiting) }

    /// What the standby has been sent, and what it has taken, in through frames; the same where no write waits for it.
    package var progress: (sent: UInt64, taken: UInt64) {
        state.withLock { state in
            let isWaitedFor = state.isWaitedFor && state.end == nil
            return (isWaitedFor ? state.sender?.throughFrames ?? state.taken : state.taken, state.taken)
        }
    }

    // MARK: - What the disks ask

    /// What a write waits for whose last frame was that one of the through frames, or of which a frame could not be queued
    /// (nil). Each ticket that is not done is waited for once.
    func ticket(for count: UInt64?) -> DiskTicket {
        state.withLock { state in
            guard state.isWaitedFor, state.end != .released, count != 0 else { return .done }
            if let count, count <= state.taken, state.end == nil { return .done }
            state.waiting += 1
            return count.map { DiskTicket($0) } ?? Self.never
        }
    }

    /// What a flush waits for: all that was queued so far.
    func ticketForAll() -> DiskTicket {
        guard let sender = state.withLock(\.sender) else { return .done }
        return ticket(for: sender.throughFrames)
    }

    /// Has that request answered once the standby has taken it, or is waited for no more; or once the guest is gone, as failed.
    func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
        state.withLock { $0.asked.append(Waiting(ticket: ticket, cookie: cookie, replies: replies)) }
        settle()
    }

    private func settle() {
        let (over, end) = state.withLock { ($0.takeOver(), $0.end) }
        for waiting in over {
            waiting.replies.settle(
                waiting.cookie,
                end == .closed ? .unavailable("the guest is gone, and its write was not copied to the standby") : nil)
        }
    }
}
