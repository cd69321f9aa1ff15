import CLinux
import Glibc

/// The end of a process whose memory is still wanted.
public enum CondemnedProcess {
    /// Until every thread of a process stands still, in nanoseconds.
    private static let stopLimit: UInt64 = 1_000_000_000

    /// Stops `process` at once, lets `body` read its memory, and ends it; it does not run again in between, whatever
    /// happens: it is traced meanwhile under PTRACE_O_EXITKILL, so the kernel ends it should this program end first. When it
    /// cannot be held like that it is ended without `body`.
    ///
    /// Returns when SIGKILL was sent, or throws when even that failed. `body` runs on a thread of its own, because the
    /// exit of a traced process is left to its parent only once the thread that traced it has ended.
    public static func end(
        _ process: borrowing PidDescriptor, _ body: @escaping @Sendable (pid_t) -> Void
    ) throws(SystemError) {
        let (pid, descriptor) = (process.pid, process.number)
        if (try? process.signal(SIGSTOP)) != nil {
            let thread = try? NamedThread.start("last-memory") {
                // Seized before it stands still, the thread that takes the signal would stop alone.
                if standsStill(pid), rml_seize_until_killed(pid) == 0 { body(pid) }
                _ = rml_pidfd_signal(descriptor, SIGKILL)
            }
            if let thread { thread.join() }
        }
        try process.kill()
    }

    private static func standsStill(_ pid: pid_t) -> Bool {
        let deadline = MonotonicClock.now() + stopLimit
        while MonotonicClock.now() < deadline {
            guard let state = try? ProcessFiles.status("State", of: pid) else { return false }
            if state.hasPrefix("T") { return true }
            MonotonicClock.sleep(until: MonotonicClock.now() + 100_000)
        }
        return false
    }
}
