import CLinux
import Glibc

/// How much processor time another process has used, asked of the scheduler's own clocks: about a microsecond a look.
///
/// The kernel counts a running thread at its ticks and when it stops running (kernel/time/posix-cpu-timers.c,
/// `thread_group_sample_cputime`), so what runs right now shows up to a tick (1 to 10 ms) late.
public struct ProcessorTime: ~Copyable, Sendable {
    private let clock: clockid_t
    /// `/proc/PID/task/PID/schedstat`; nil where the kernel keeps none.
    private let mainThread: OwnedDescriptor?

    /// Throws ESRCH when there is no such process.
    public init(of pid: pid_t) throws(SystemError) {
        var clock = clockid_t()
        _ = try checked(-clock_getcpuclockid(pid, &clock), "find the processor clock of", "process \(pid)")
        self.clock = clock
        do throws(SystemError) {
            mainThread = try OwnedDescriptor.open("/proc/\(pid)/task/\(pid)/schedstat", O_RDONLY)
        } catch {
            mainThread = nil
        }
    }

    /// Of all threads, ended ones too, in nanoseconds; nil when the process is gone.
    public func total() -> UInt64? {
        var time = timespec()
        guard clock_gettime(clock, &time) == 0 else { return nil }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// As `total`, without what the main thread used.
    public func besideMainThread() -> UInt64? {
        guard let total = total() else { return nil }
        return total - min(total, mainThreadTime)
    }

    /// The first of three numbers is the time on a processor, in nanoseconds (Documentation/scheduler/sched-stats.rst).
    private var mainThreadTime: UInt64 {
        let number: Int32 =
            switch mainThread {
            case .some(let file): file.number
            case .none: -1
            }
        return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { bytes in
            let count = rml_pread(number, bytes.baseAddress, bytes.count, 0)
            var time: UInt64 = 0
            for byte in bytes.prefix(max(0, count)) {
                guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { break }
                time = time &* 10 &+ UInt64(byte - UInt8(ascii: "0"))
            }
            return time
        }
    }
}
