import CLinux
import Glibc

/// Wakes a thread when another process has used so much processor time. Costs nothing while that process rests: the kernel
/// looks at the timer when it accounts for a tick of that process (kernel/time/posix-cpu-timers.c), so it may go off up to a
/// tick late.
///
/// Belongs to the thread that made it: only that thread hears it.
public struct ProcessorAlarm: ~Copyable {
    private let descriptor: OwnedDescriptor
    /// What the kernel calls it: the first timer of a process is number 0, which is no pointer.
    private let timer: timer_t?

    /// Throws ESRCH when there is no such process.
    public init(of pid: pid_t) throws(SystemError) {
        var clock = clockid_t()
        _ = try checked(-clock_getcpuclockid(pid, &clock), "find the processor clock of", "process \(pid)")
        let descriptor = OwnedDescriptor(owning: try checked(rml_alarm_descriptor(), "hear", "an alarm"))
        var timer: timer_t?
        _ = try checked(rml_alarm_create(clock, &timer), "set an alarm on the processor clock of", "process \(pid)")
        self.descriptor = descriptor
        self.timer = timer
    }

    deinit { rml_alarm_delete(timer) }

    /// Readable once it went off.
    public var number: Int32 { descriptor.number }

    /// Goes off once, when the process has used `total` nanoseconds in all of its life; this takes the place of an earlier call.
    /// One that is set for a process that is gone never goes off.
    public func set(atTotal total: UInt64) {
        rml_alarm_take(number)
        _ = rml_alarm_set(timer, max(total, 1))
    }

    /// Forgets that it went off.
    public func take() { rml_alarm_take(number) }
}
