import LinuxSystem
import Synchronization

/// One part of the agent that is asked, again and again, for a sign of life: a queue or an event loop that runs what it
/// is given.
final class Pulse: Sendable {
    let name: String
    /// When the question that is not answered yet was put; 0 when there is none.
    private let askedAt = Atomic<UInt64>(0)
    private let run: @Sendable (@escaping @Sendable () -> Void) -> Void

    init(_ name: String, run: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void) {
        self.name = name
        self.run = run
    }

    /// Asks, unless the last question still waits.
    func ask() {
        guard askedAt.load(ordering: .acquiring) == 0 else { return }
        askedAt.store(MonotonicClock.now(), ordering: .releasing)
        run { [self] in askedAt.store(0, ordering: .releasing) }
    }

    /// For how long the last question has waited, in nanoseconds.
    var silence: UInt64 {
        let asked = askedAt.load(ordering: .acquiring)
        let now = MonotonicClock.now()
        return asked == 0 || asked > now ? 0 : now - asked
    }
}
