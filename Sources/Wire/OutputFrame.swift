import Model

/// What a NIC of the guest sent during an epoch and the primary holds, in order, in the framing of QEMU's
/// filter-redirector: each packet a big-endian u32 length and its bytes. The stream is passed on unchanged.
///
///      0  nic       u16   position in the list of the offer
///      2  reserved  u16
///      4  count     u32   packets, at least 1
///      8  packets         `count` times be32 length (1...packetMax), bytes
public struct OutputFrame: PacketBody {
    public static let type = FrameType.output
    static let headSize = 8
    /// The longest packet in bytes: QEMU's own limit for a network buffer (NET_BUFSIZE, 4 KiB + 64 KiB).
    public static let packetMax = 69_632
    /// The longest packet stream that fits one frame, in bytes.
    public static let packetsMax = FrameType.output.bodyMax - headSize

    public var nic: UInt16
    public var count: UInt32
    /// The packets with their lengths, as they go to the redirector's socket.
    public var packets: UnsafeRawBufferPointer

    public init(nic: UInt16, count: UInt32, packets: UnsafeRawBufferPointer) {
        self.nic = nic
        self.count = count
        self.packets = packets
    }
}

/// Packets of one NIC, each behind its length.
public protocol PacketBody: FrameBody {
    var nic: UInt16 { get }
    var count: UInt32 { get }
    /// The packets with their lengths.
    var packets: UnsafeRawBufferPointer { get }
    init(nic: UInt16, count: UInt32, packets: UnsafeRawBufferPointer)
}

extension PacketBody {
    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(Self.type, body)
        let nic = try fields.number(UInt16.self)
        try fields.reserved(2)
        let count = try fields.number(UInt32.self)
        guard count > 0 else { throw fields.malformed(at: 4, "it holds no packet") }
        let packets = UnsafeRawBufferPointer(rebasing: body[fields.offset...])
        for _ in 0..<count {
            let at = fields.offset
            let length = try fields.number(UInt32.self).byteSwapped
            guard (1...UInt32(OutputFrame.packetMax)).contains(length) else {
                throw fields.malformed(at: at, "a packet of \(length) bytes is not in 1...\(OutputFrame.packetMax)")
            }
            _ = try fields.take(Int(length))
        }
        try fields.end()
        self.init(nic: nic, count: count, packets: packets)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(nic)
        sink.append(zeros: 2)
        sink.append(count)
        sink.append(contentsOf: packets)
    }

    /// Calls `visit` with each packet in order, without its length. Only for values that were parsed.
    public func forEachPacket<Failure: Error>(
        _ visit: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        var offset = 0
        for _ in 0..<count {
            let length = Int(UInt32(bigEndian: packets.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            try visit(UnsafeRawBufferPointer(rebasing: packets[offset + 4..<offset + 4 + length]))
            offset += 4 + length
        }
    }
}
