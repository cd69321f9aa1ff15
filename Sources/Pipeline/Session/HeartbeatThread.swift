import LinuxSystem
import Model
import Synchronization

/// Calls `beat` several times in the time of a judged silence, on a thread of its own: neither a long copy nor a slow
/// disk may look like a dead host.
final class HeartbeatThread: Sendable {
    private let stopped = Atomic(false)

    init(
        _ vm: VMName, silenceMilliseconds: Int, _ beat: @escaping @Sendable () -> Void
    ) throws(SystemError) {
        let interval = UInt64(silenceMilliseconds) * 200_000
        _ = try NamedThread.start("beat-\(vm)") { [self] in
            while !stopped.load(ordering: .relaxed) {
                beat()
                MonotonicClock.sleep(until: MonotonicClock.now() + interval)
            }
        }
    }

    func stop() { stopped.store(true, ordering: .relaxed) }
}
