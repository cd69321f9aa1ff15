import LinuxSystem
import Model
import Synchronization

/// Calls `beat` several times in the time of a judged silence, on a thread of its own: neither a long copy nor a slow
/// disk may look like a dead host. Nor may this host's own slowness: `wasLate` tells that the beat itself came late, so
/// that what arrived meanwhile may not have been looked at yet, and silence must not be judged this time.
final class HeartbeatThread: Sendable {
    private let stopped = Atomic(false)

    init(
        _ vm: VMName, silenceMilliseconds: Int, _ beat: @escaping @Sendable (_ wasLate: Bool) -> Void
    ) throws(SystemError) {
        let interval = UInt64(silenceMilliseconds) * 200_000
        _ = try NamedThread.start("beat-\(vm)") { [self] in
            var due = MonotonicClock.now()
            while !stopped.load(ordering: .relaxed) {
                SessionBeats.note(self, vm, silence: 5 * interval)
                beat(MonotonicClock.now() > due + interval)
                due = MonotonicClock.now() + interval
                MonotonicClock.sleep(until: due)
            }
            SessionBeats.forget(self)
        }
    }

    func stop() { stopped.store(true, ordering: .relaxed) }
}
