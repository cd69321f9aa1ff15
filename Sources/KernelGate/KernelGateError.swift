import Glibc
import LinuxSystem

/// Why the gate did not do what it was told. After every one of these the gate is as it was before, except `vanished`.
public enum KernelGateError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The process lacks CAP_NET_ADMIN.
    case notPermitted
    /// The kernel has no nf_tables, or not the hook that is needed.
    case unavailable(SystemError)
    case noDevice(String)
    /// No name of a network device.
    case badDevice(String)
    /// Another live program has taken the table for itself: most likely a second agent.
    case ownedByAnother
    /// The table is gone: nothing holds the guests back any more.
    case vanished
    /// Three times in a row the kernel worked the request off so late that it refused it.
    case late
    /// No guest of that name is installed.
    case unknownGuest(String)
    case refused(SystemError)

    public var description: String {
        switch self {
        case .notPermitted:
            "the kernel gate cannot be set: the agent lacks the right to change network rules; run it with "
                + "CAP_NET_ADMIN (AmbientCapabilities= in its systemd unit), or as root"
        case .unavailable(let error):
            "\(error): the kernel gate needs nf_tables with its netdev family; load the module nf_tables, or use a kernel "
                + "6.7 or newer built with CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS and CONFIG_NETFILTER_EGRESS"
        case .noDevice(let name):
            "there is no network device \(name) in the agent's network namespace, so the kernel gate cannot stand "
                + "before it: check the NIC's tap with “ip link”"
        case .badDevice(let name):
            "“\(name)” is not the name of a network device: 1 to 15 bytes without blank, slash and colon"
        case .ownedByAnother:
            "the table netdev romulus belongs to another running program, most likely a second agent: stop one of them "
                + "(“nft list table netdev romulus” shows the table)"
        case .vanished:
            "the table netdev romulus is gone although nobody here removed it: nothing holds the guests' output back; "
                + "end the guests or install the gate anew, and keep other programs from flushing the rules"
        case .late:
            "the kernel refused three requests to keep the gate open, because each reached it more than "
                + "\(KernelGate.ticketMilliseconds) ms after it was made: the agent gets too little processor time"
        case .unknownGuest(let name):
            "the kernel gate does not know the guest \(name): it has to be installed first"
        case .refused(let error): "\(error)"
        }
    }

    /// What an errno of nf_tables means.
    init(_ errno: Int32, doing operation: String) {
        let error = SystemError(operation: operation, errno: errno, subject: "the table netdev romulus")
        switch errno {
        case EPERM: self = .ownedByAnother
        case EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT: self = .unavailable(error)
        default: self = .refused(error)
        }
    }
}
