import Glibc

/// Why a process could not be attached to. The process is as it was before.
public enum AttachError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The host lacks an ability.
    case lacking(MissingAbility)
    case noSuchProcess(pid_t)
    case diedMeanwhile(pid_t)
    /// `pid` is a thread of process `leader`.
    case notAProcess(pid_t, leader: pid_t)
    /// Another tracer holds it.
    case secondTracer(pid_t, tracer: pid_t, name: String)
    case notPermitted(pid_t, SystemError)
    /// Not a 64-bit x86 program; `found` says what it is.
    case wrongClass(pid_t, found: String)
    case noSyscallInstruction(pid_t)
    /// Its main thread did not stop within `milliseconds`.
    case doesNotStop(pid_t, milliseconds: UInt64, state: String)
    /// It is itself refused the userfaultfd call.
    case userfaultfdRefused(pid_t, errno: Int32, filtered: Bool)
    case outOfDescriptors(pid_t)
    case system(SystemError)

    public var description: String {
        switch self {
        case .lacking(let ability):
            return ability.description
        case .noSuchProcess(let pid):
            return "there is no process \(pid): look up the VM's QEMU again"
        case .diedMeanwhile(let pid):
            return "process \(pid) ended while it was being attached to: start the VM again and protect it then"
        case .notAProcess(let pid, let leader):
            return "\(pid) is a thread of process \(leader): attach to \(leader)"
        case .secondTracer(let pid, let tracer, let name):
            return "process \(pid) is already traced by process \(tracer) (\(name)), and the kernel allows one tracer: "
                + "end that debugger or strace, then try again"
        case .notPermitted(let pid, let error):
            return "not permitted to attach to process \(pid) (\(error)): run the agent with CAP_SYS_PTRACE and "
                + "CAP_DAC_READ_SEARCH, and let kernel.yama.ptrace_scope and the security profile of the process allow it"
        case .wrongClass(let pid, let found):
            return
                "process \(pid) is \(found), Romulus attaches to 64-bit x86 programs only: run the VM with the 64-bit "
                + "qemu-system-x86_64"
        case .noSyscallInstruction(let pid):
            return "found no system-call instruction in the executable mappings of process \(pid): use a QEMU that is "
                + "linked with the system's C library, on a kernel with the vdso switched on"
        case .doesNotStop(let pid, let milliseconds, let state):
            return
                "the main thread of process \(pid) did not stop within \(milliseconds) ms (state \(state)): it hangs in "
                + "the kernel, most often on storage or in a frozen cgroup; clear that, then try again"
        case .userfaultfdRefused(let pid, let errno, let filtered):
            let cause = SystemError(operation: "make", errno: errno, subject: "a userfaultfd")
            return "process \(pid) was refused a descriptor for following its memory (\(cause)): "
                + (filtered
                    ? "its seccomp filter forbids userfaultfd; start QEMU with a filter that allows it"
                    : "allow userfaultfd to it (a security profile, or vm.unprivileged_userfaultfd=1)")
        case .outOfDescriptors(let pid):
            return "process \(pid) has no free file descriptor for a moment's use: raise its limit (prlimit --nofile)"
        case .system(let error):
            return error.description
        }
    }
}
