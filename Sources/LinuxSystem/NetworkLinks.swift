/// One network device, as rtnetlink(7) tells of it.
public struct NetworkLink: Hashable, Sendable {
    public var number: UInt32
    public var name = ""
    /// `bridge`, `tun`, `veth`, `bond`, …; empty for hardware.
    public var kind = ""
    /// The device that it is a member of: a bridge, a bond; nil without one.
    public var master: UInt32?
    /// It is up, and something is at its other end.
    public var isConnected = false
    /// Its Ethernet address.
    public var address: [UInt8] = []
    /// Of a bridge: it tells VLANs apart.
    public var filtersVLANs = false

    init(number: UInt32) { self.number = number }
}

/// The network devices of the calling thread's network namespace.
public enum NetworkLinks {
    /// NETLINK_ROUTE; RTM_GETLINK and RTM_NEWLINK; NLM_F_REQUEST and NLM_F_DUMP.
    private static let route: Int32 = 0
    private static let (question, answer): (UInt16, UInt16) = (18, 16)
    private static let dump: UInt16 = 0x301
    /// NLMSG_ERROR, NLMSG_DONE.
    private static let (error, done): (UInt16, UInt16) = (2, 3)
    private static let headSize = 16
    /// IFF_UP.
    private static let up: UInt32 = 1

    /// All of them.
    public static func all() throws(SystemError) -> [NetworkLink] {
        let socket = try NetlinkSocket(protocol: route)
        var request = [UInt8](repeating: 0, count: 2 * headSize)
        request.withUnsafeMutableBytes { bytes in
            bytes.storeBytes(of: UInt32(2 * headSize), as: UInt32.self)
            bytes.storeBytes(of: question, toByteOffset: 4, as: UInt16.self)
            bytes.storeBytes(of: dump, toByteOffset: 6, as: UInt16.self)
        }
        try socket.send(request)
        var links: [NetworkLink] = []
        while let datagram = try socket.receive() {
            guard take(datagram, &links) else { break }
        }
        return links
    }

    /// False after the last message.
    static func take(_ datagram: [UInt8], _ links: inout [NetworkLink]) -> Bool {
        var rest = datagram[...]
        while rest.count >= headSize {
            let length = Int(rest.word(0))
            guard length >= headSize, length <= rest.count else { return false }
            let message = rest.prefix(length)
            switch message.half(4) {
            case answer where length >= 2 * headSize: links.append(link(message.dropFirst(headSize)))
            case error, done: return false
            default: break
            }
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return true
    }

    /// `struct ifinfomsg` and its attributes.
    private static func link(_ body: ArraySlice<UInt8>) -> NetworkLink {
        var link = NetworkLink(number: body.word(4))
        let isUp = body.word(8) & up != 0
        for (type, value) in attributes(body.dropFirst(headSize)) {
            switch type {
            case 1: link.address = Array(value)  // IFLA_ADDRESS
            case 3: link.name = text(value)  // IFLA_IFNAME
            case 10 where value.count >= 4: link.master = value.word(0)  // IFLA_MASTER
            case 33: link.isConnected = isUp && value.first == 1  // IFLA_CARRIER
            case 18:  // IFLA_LINKINFO: IFLA_INFO_KIND, IFLA_INFO_DATA
                for (type, value) in attributes(value) {
                    if type == 1 { link.kind = text(value) }
                    // IFLA_BR_VLAN_FILTERING
                    if type == 2, link.kind == "bridge" {
                        link.filtersVLANs = attributes(value).contains { $0.type == 7 && $0.value.first == 1 }
                    }
                }
            default: break
            }
        }
        return link
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    private static func attributes(_ bytes: ArraySlice<UInt8>) -> [(type: UInt16, value: ArraySlice<UInt8>)] {
        var found: [(UInt16, ArraySlice<UInt8>)] = []
        var rest = bytes
        while rest.count >= 4 {
            let length = Int(rest.half(0))
            guard length >= 4, length <= rest.count else { break }
            // The two upper bits say "nested" and "in network order".
            found.append((rest.half(2) & 0x3fff, rest.prefix(length).dropFirst(4)))
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return found
    }
}

extension ArraySlice<UInt8> {
    /// In this machine's order.
    fileprivate func half(_ offset: Int) -> UInt16 {
        withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt16.self) }
    }
    fileprivate func word(_ offset: Int) -> UInt32 {
        withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    }
}
