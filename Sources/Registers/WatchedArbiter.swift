import Model
import Synchronization

/// An arbiter of which it is known when it last answered. Whatever is asked of it goes through, and counts.
public final class WatchedArbiter: Arbiter {
    /// How the arbiter answered lately.
    public struct View: Sendable, Equatable {
        /// False from the second question in a row that got no answer until the next answer.
        public var isUp = true
        /// Of the last answer; nil before the first.
        public var answered: ContinuousClock.Instant?
        /// Why there was no answer to the last question; nil when there was one.
        public var reason: String?
    }

    private struct State {
        var view = View()
        var unanswered = 0
    }

    /// One question may be lost to a restart, or to a link that is made anew.
    private static let unansweredMax = 2

    public var name: String { arbiter.name }
    private let arbiter: any Arbiter
    private let changed = Mutex<(@Sendable (View) -> Void)?>(nil)
    private let state = Mutex(State())

    public init(_ arbiter: any Arbiter) { self.arbiter = arbiter }

    /// `changed` is called when the arbiter is found away, and when it is back, from any thread.
    public func onChange(_ changed: @escaping @Sendable (View) -> Void) { self.changed.withLock { $0 = changed } }

    public var view: View { state.withLock { $0.view } }
    public var isUp: Bool { view.isUp }

    public func read(_ vm: VMName) async -> RegisterReading {
        let reading = await arbiter.read(vm)
        if case .unknown(let reason) = reading { note(reason) } else { note(nil) }
        return reading
    }

    public func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        let answer = await arbiter.compareAndSet(vm, expecting: expected, to: new, nonce: nonce)
        if case .unknown(let reason) = answer { note(reason) } else { note(nil) }
        return answer
    }

    public func close() async { await arbiter.close() }

    private func note(_ reason: String?) {
        let news = state.withLock { state -> View? in
            let wasUp = state.view.isUp
            state.view.reason = reason
            if reason == nil {
                state.view.answered = .now
                state.view.isUp = true
                state.unanswered = 0
            } else {
                state.unanswered += 1
                if state.unanswered >= Self.unansweredMax { state.view.isUp = false }
            }
            return state.view.isUp == wasUp ? nil : state.view
        }
        if let news { changed.withLock { $0 }?(news) }
    }
}
