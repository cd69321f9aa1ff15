import LinuxSystem
import Synchronization

/// Calls `beat` at the interval of the heartbeat, on a thread of its own: neither a long copy nor a slow disk may look
/// like a dead host.
final class HeartbeatThread: Sendable {
    private let stopped = Atomic(false)

    /// `beat` returns when it wants to be called again at the latest; the next heartbeat is due at the interval anyway.
    /// Its argument tells whether a heartbeat is due now. `borne` is the least silence that the other side bears, in
    /// milliseconds.
    init(
        _ name: String, milliseconds: Int, borne: Int, _ beat: @escaping @Sendable (_ isDue: Bool) -> UInt64
    ) throws(SystemError) {
        let interval = UInt64(milliseconds) * 1_000_000
        _ = try NamedThread.start("beat-\(name)") { [self] in
            var due = MonotonicClock.now()
            while !stopped.load(ordering: .relaxed) {
                let now = MonotonicClock.now()
                SessionBeats.note(self, name, silence: UInt64(borne) * 1_000_000)
                let isDue = now >= due
                // After a late beat the next one is a whole interval away: the rhythm is for the peer, not for a count.
                if isDue { due = now + interval }
                MonotonicClock.sleep(until: min(due, max(beat(isDue), now + interval / 8)))
            }
            SessionBeats.forget(self)
        }
    }

    func stop() { stopped.store(true, ordering: .relaxed) }
}
