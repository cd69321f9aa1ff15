import Glibc
import LinuxSystem

/// What the kernel counted of a network device's frames since it was made.
struct DeviceCounters: Equatable, Sendable {
    /// Handed to whoever reads them from the device.
    var taken: UInt64
    /// Lost, because nobody had read what came before.
    var dropped: UInt64

    /// NETLINK_ROUTE, RTM_GETLINK, IFLA_STATS64 (`struct rtnl_link_stats64`).
    private static let route: Int32 = 0
    private static let getLink: UInt16 = 18
    private static let statistics: UInt16 = 23

    /// - Throws: where there is no such device (any more).
    init(of device: UInt32) throws(SystemError) {
        let socket = try NetlinkSocket(protocol: Self.route)
        // struct nlmsghdr, struct ifinfomsg (netlink(7), rtnetlink(7)).
        var request = [UInt8](repeating: 0, count: 32)
        request.withUnsafeMutableBytes { bytes in
            bytes.storeBytes(of: 32, toByteOffset: 0, as: UInt32.self)
            bytes.storeBytes(of: Self.getLink, toByteOffset: 4, as: UInt16.self)
            bytes.storeBytes(of: UInt16(1), toByteOffset: 6, as: UInt16.self)
            bytes.storeBytes(of: device, toByteOffset: 20, as: UInt32.self)
        }
        try socket.send(request)
        guard let reply = try socket.receive(), let counters = Self.read(reply) else {
            throw SystemError(operation: "read the counters of", errno: ENODEV, subject: "device \(device)")
        }
        self = counters
    }

    private init(taken: UInt64, dropped: UInt64) {
        self.taken = taken
        self.dropped = dropped
    }

    private static func read(_ reply: [UInt8]) -> DeviceCounters? {
        reply.withUnsafeBytes { bytes in
            var offset = 32
            while offset + 4 <= bytes.count {
                let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
                let type = bytes.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
                guard length >= 4, offset + length <= bytes.count else { return nil }
                if type == statistics, length >= 4 + 64 {
                    let value = { bytes.loadUnaligned(fromByteOffset: offset + 4 + 8 * $0, as: UInt64.self) }
                    return DeviceCounters(taken: value(1), dropped: value(7))
                }
                offset += (length + 3) & ~3
            }
            return nil
        }
    }
}
