import Glibc

/// A network device through which a guest sends, and on which side of it the guest's frames pass.
public struct GatedLink: Hashable, Sendable, CustomStringConvertible {
    public enum Hook: String, Hashable, Sendable, CaseIterable {
        /// What QEMU writes into a tap *comes in* from that tap, with and without vhost-net.
        case ingress
        /// What QEMU writes into a macvtap *goes out* through that device (drivers/net/tap.c hands it to
        /// `dev_queue_xmit`).
        case egress

        /// NF_NETDEV_INGRESS and NF_NETDEV_EGRESS.
        var number: UInt32 { self == .ingress ? 0 : 1 }
    }

    /// As the kernel knows it.
    public let name: String
    public let hook: Hook

    /// Throws `badDevice` for what can be no device's name (`dev_valid_name` of the kernel).
    public init(_ name: String, hook: Hook = .ingress) throws(KernelGateError) {
        let isPlain = name.utf8.allSatisfy {
            $0 > 0x20 && $0 != 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":")
        }
        guard (1..<Int(IFNAMSIZ)).contains(name.utf8.count), isPlain, name != ".", name != ".." else {
            throw .badDevice(name)
        }
        self.name = name
        self.hook = hook
    }

    public var description: String { "\(name) (\(hook.rawValue))" }

    /// The chain that stands before it.
    var chain: String { "\(hook.rawValue)_\(name)" }

    /// The link of such a chain; nil for another one.
    init?(chain: String) {
        for hook in Hook.allCases where chain.hasPrefix(hook.rawValue + "_") {
            guard let link = try? GatedLink(String(chain.dropFirst(hook.rawValue.count + 1)), hook: hook) else {
                return nil
            }
            self = link
            return
        }
        return nil
    }
}
