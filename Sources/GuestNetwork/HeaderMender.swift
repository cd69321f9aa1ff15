/// Gives frames that QEMU itself sends in the guest's name the header that the NIC's own frames have.
///
/// Where a tap carries virtio-net headers, each frame of the guest comes with one of 10 or 12 bytes. What `announce-self`
/// sends (net/announce.c) comes without: the tap would have put zeroes before it. Given back as it is, the tap takes the
/// frame's first bytes for the header, and drops it. How long the header is is learnt from the guest's own frames.
struct HeaderMender {
    /// `announce_self_create` makes frames of this many bytes: to all, from the NIC, of type RARP.
    private static let announcementLength = 60
    private static let announcementType: [UInt8] = [0x80, 0x35]
    /// `struct virtio_net_hdr_mrg_rxbuf` and `struct virtio_net_hdr`.
    private static let headerLengths = [12, 10]

    private let mac: [UInt8]
    /// Of the guest's last frame; nil before the first.
    private var headerLength: Int?
    /// The beginning of a frame, its length included, of which the rest is still to come.
    private var rest: [UInt8] = []

    /// `mac` is the NIC's, `52:54:00:00:00:01`; nil for what is none.
    init?(mac: String) {
        let bytes = mac.split(separator: ":").compactMap { UInt8($0, radix: 16) }
        guard bytes.count == 6 else { return nil }
        self.mac = bytes
    }

    /// Appends the whole frames that `bytes` completes, in the redirector's format like `bytes` itself.
    mutating func pass(_ bytes: UnsafeRawBufferPointer, to target: inout [UInt8]) {
        guard !rest.isEmpty else {
            rest = Array(bytes[passWhole(bytes, &target)...])
            return
        }
        rest.append(contentsOf: bytes)
        let joined = rest
        rest = joined.withUnsafeBytes { Array($0[passWhole($0, &target)...]) }
    }

    /// Returns how many bytes were taken.
    private mutating func passWhole(_ bytes: UnsafeRawBufferPointer, _ target: inout [UInt8]) -> Int {
        var unsent = 0
        var next = 0
        while next + 4 <= bytes.count {
            let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: next, as: UInt32.self)))
            guard next + 4 + length <= bytes.count else { break }
            let frame = UnsafeRawBufferPointer(rebasing: bytes[next + 4..<next + 4 + length])
            if isAnnouncement(frame) {
                if let header = headerLength, header > 0 {
                    target.append(contentsOf: bytes[unsent..<next])
                    withUnsafeBytes(of: UInt32(length + header).bigEndian) { target.append(contentsOf: $0) }
                    target.append(contentsOf: repeatElement(0, count: header))
                    target.append(contentsOf: frame)
                    unsent = next + 4 + length
                }
            } else {
                learn(frame)
            }
            next += 4 + length
        }
        target.append(contentsOf: bytes[unsent..<next])
        return next
    }

    private func isAnnouncement(_ frame: UnsafeRawBufferPointer) -> Bool {
        frame.count == Self.announcementLength && frame[..<6].allSatisfy { $0 == 0xff }
            && frame[6..<12].elementsEqual(mac) && frame[12..<14].elementsEqual(Self.announcementType)
    }

    /// A frame of the guest has the NIC's address as its source, behind the header.
    private mutating func learn(_ frame: UnsafeRawBufferPointer) {
        for header in Self.headerLengths + [0]
        where frame.count >= header + 14 && frame[header + 6..<header + 12].elementsEqual(mac) {
            headerLength = header
            return
        }
    }
}
