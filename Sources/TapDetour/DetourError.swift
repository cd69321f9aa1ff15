import Glibc
import LinuxSystem

/// Why a tap's frames cannot be led around. After every one of these they take the way that they took before.
public enum DetourError: Error, Equatable, Sendable, CustomStringConvertible {
    case noDevice(String)
    /// This agent leads its frames around already.
    case busy(String)
    /// The process lacks CAP_NET_ADMIN, CAP_BPF, or CAP_SYS_ADMIN, without which programs of others cannot be looked at
    /// (kernel/bpf/syscall.c, `bpf_prog_get_fd_by_id`).
    case notPermitted(SystemError)
    /// The kernel has no such hooks.
    case unavailable(SystemError)
    case refused(SystemError)

    public var description: String {
        switch self {
        case .noDevice(let name):
            "there is no network device \(name) in the agent's network namespace, so the guest's frames cannot be led through "
                + "the agent: check the NIC's tap with “ip link”"
        case .busy(let name):
            "tap \(name) is that of another VM whose output is held here: give each NIC a tap of its own"
        case .notPermitted(let error):
            "\(error): the agent needs CAP_NET_ADMIN, CAP_BPF and CAP_SYS_ADMIN (as its systemd unit has them), or to run as "
                + "root"
        case .unavailable(let error):
            "\(error): leading a tap's frames through the agent needs Linux 6.6 or newer, built with CONFIG_BPF_SYSCALL and "
                + "CONFIG_NET_XGRESS"
        case .refused(let error): "\(error)"
        }
    }

    init(_ error: SystemError) {
        switch error.errno {
        case EPERM, EACCES: self = .notPermitted(error)
        case EINVAL, EOPNOTSUPP, ENOSYS: self = .unavailable(error)
        default: self = .refused(error)
        }
    }
}
