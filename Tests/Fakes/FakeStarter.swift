import Hypervisor
import Model
import Pair
import Synchronization

/// Starts guests that died; here only in words.
public final class FakeStarter: GuestStarter {
    private struct State {
        var starts = 0
        var failures: [SessionError] = []
    }

    private let state = Mutex(State())

    public init() {}

    public var starts: Int { state.withLock { $0.starts } }
    /// The next starts fail, one after the other.
    public func fail(_ errors: [SessionError]) { state.withLock { $0.failures = errors } }

    public func start(_ guest: GuestDescription) throws(SessionError) -> StartedGuest {
        let failure = state.withLock { state -> SessionError? in
            state.starts += 1
            return state.failures.isEmpty ? nil : state.failures.removeFirst()
        }
        if let failure { throw failure }
        return StartedGuest(pid: 4711, monitorPath: "/fake/again")
    }
}
