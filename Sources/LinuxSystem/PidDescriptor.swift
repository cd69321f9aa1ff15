import CLinux
import Glibc

/// A handle on a process that cannot come to mean another one when its number is used again.
public struct PidDescriptor: ~Copyable, Sendable {
    public let pid: pid_t
    private let descriptor: OwnedDescriptor

    /// Throws ESRCH when there is no such process.
    public init(_ pid: pid_t) throws(SystemError) {
        self.pid = pid
        descriptor = OwnedDescriptor(owning: try checked(rml_pidfd_open(pid), "open", "process \(pid)"))
    }

    /// For a `Poller`; readable once the process has ended.
    public var number: Int32 { descriptor.number }

    /// True once every thread of the process has ended, reaped or not.
    public func hasExited() -> Bool { (try? waitForExit(timeout: 0)) ?? false }

    /// Waits at most `timeout` nanoseconds (nil: for as long as it takes) for the end of the process; true when it ended.
    public func waitForExit(timeout: UInt64?) throws(SystemError) -> Bool {
        var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        let deadline = timeout.map { MonotonicClock.now() &+ $0 }
        while true {
            let now = MonotonicClock.now()
            let left = deadline.map { $0 > now ? Int64(clamping: $0 - now) : 0 } ?? -1
            let result = rml_poll(&entry, 1, left)
            if result == -EINTR { continue }
            return try checked(result, "wait for", "process \(pid)") > 0
        }
    }

    /// Sends a signal; ESRCH when the process has ended.
    public func signal(_ number: Int32) throws(SystemError) {
        _ = try checked(
            rml_pidfd_signal(descriptor.number, number), "send signal \(number) to", "process \(pid)")
    }

    /// Ends the process at once (SIGKILL); one that has ended already is no error.
    public func kill() throws(SystemError) {
        let result = rml_pidfd_signal(descriptor.number, SIGKILL)
        if result != -ESRCH { _ = try checked(result, "kill", "process \(pid)") }
    }

    /// A copy, for us, of one of the process's descriptors. Needs the right to trace it.
    public func copyDescriptor(_ number: Int32) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(
            owning: try checked(
                rml_pidfd_getfd(descriptor.number, number), "copy", "descriptor \(number) of process \(pid)"))
    }
}
