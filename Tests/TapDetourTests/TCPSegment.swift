/// A segment that is cut up behind the guest.
enum TCPSegment {
    /// struct virtio_net_hdr: a checksum is wanted, TCP over IPv4, headers of 54 bytes, segments of 1448.
    static let header: [UInt8] = [1, 1, 54, 0, 0xa8, 0x05, 34, 0, 16, 0]

    /// An Ethernet frame with one TCP segment over IPv4 of so many bytes; its TCP checksum is that of the pseudo header only.
    static func frame(_ payload: Int) -> [UInt8] {
        func word(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xff), UInt8(value & 0xff)] }
        func sum(_ bytes: [UInt8]) -> Int {
            var sum = stride(from: 0, to: bytes.count, by: 2).reduce(0) {
                $0 + Int(bytes[$1]) << 8 + Int(bytes[$1 + 1])
            }
            while sum > 0xffff { sum = sum & 0xffff + sum >> 16 }
            return sum
        }
        let addresses: [UInt8] = [10, 0, 0, 1, 10, 0, 0, 2]
        var ip: [UInt8] = [0x45, 0] + word(40 + payload) + [0, 0, 0x40, 0, 64, 6, 0, 0] + addresses
        ip.replaceSubrange(10..<12, with: word(0xffff - sum(ip)))
        let pseudo = sum(addresses + [0, 6] + word(20 + payload))
        let tcp: [UInt8] =
            word(5001) + word(5002) + [0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff] + word(pseudo) + [0, 0]
        return [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 0x08, 0] + ip + tcp
            + [UInt8](repeating: 7, count: payload)
    }
}
