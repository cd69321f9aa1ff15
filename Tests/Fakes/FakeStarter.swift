import Hypervisor
import Model
import Pair
import Synchronization

/// Starts guests that died; here only in words.
public final class FakeStarter: GuestStarter {
    private struct State {
        var starts = 0
        var tries = 0
        var ready = 0
        var startsToTell: Int?
        var failures: [SessionError] = []
    }

    private let state = Mutex(State())

    public init() {}

    /// Guests that ran, those that could not be made, and those that stand still.
    public var starts: Int { state.withLock { $0.starts } }
    public var tries: Int { state.withLock { $0.tries } }
    public var ready: Int { state.withLock { $0.ready } }
    /// The other host may start what cannot be started here, and is told so many starts.
    public func tell(starts: Int) { state.withLock { $0.startsToTell = starts } }
    /// The next starts fail, one after the other.
    public func fail(_ errors: [SessionError]) { state.withLock { $0.failures = errors } }

    public func makeReady(_ guest: GuestDescription) throws(SessionError) -> any ReadyGuest {
        let failure = state.withLock { state -> SessionError? in
            if state.failures.isEmpty {
                state.ready += 1
                return nil
            }
            state.tries += 1
            return state.failures.removeFirst()
        }
        if let failure { throw failure }
        return Ready(starter: self)
    }

    public func startsToTell() -> Int? { state.withLock { $0.startsToTell } }

    private final class Ready: ReadyGuest {
        let starter: FakeStarter

        init(starter: FakeStarter) { self.starter = starter }

        func run() throws(SessionError) -> StartedGuest {
            starter.state.withLock { state in
                state.ready -= 1
                state.starts += 1
            }
            return StartedGuest(pid: 4711, monitorPath: "/fake/again")
        }

        func discard() { starter.state.withLock { $0.ready -= 1 } }
    }
}
