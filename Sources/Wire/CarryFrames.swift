import Model

/// At level `component`: the primary wants the standby's port for a NIC to enter its bridge, or to leave it.
///
///      0  nic      u16   position in the list of the `attach` message
///      2  isInside u16   0 or 1
///      4  order    u32   rising within a session; at least 1
public struct CarryOrder: FrameBody, Equatable, Sendable {
    public static let type = FrameType.carry
    static let size = 8

    public var nic: UInt16
    public var isInside: Bool
    public var order: UInt32

    public init(nic: UInt16, isInside: Bool, order: UInt32) {
        self.nic = nic
        self.isInside = isInside
        self.order = order
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.carry, body)
        nic = try fields.number(UInt16.self)
        let flag = try fields.number(UInt16.self)
        guard flag <= 1 else { throw fields.malformed(at: 2, "isInside is \(flag)") }
        isInside = flag == 1
        order = try fields.number(UInt32.self)
        guard order > 0 else { throw fields.malformed(at: 4, "order 0 does not exist") }
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(nic)
        sink.append(UInt16(isInside ? 1 : 0))
        sink.append(order)
    }
}

/// What the standby sees of the bridge that a NIC would be carried to, twenty times a second and whenever it changes; and what
/// became of the primary's last order.
///
///      0  nic      u16
///      2  flags    u16   1 there is an uplink, 2 one has a carrier, 4 probes are expected, 8 the port is in the bridge
///      4  order    u32   the last that was carried out, or could not be; 0 for none
///      8  missed   u32   probes in a row; 0 without flag 4
///     12  sources  u32
public struct CarryNews: FrameBody, Equatable, Sendable {
    public static let type = FrameType.carryNews
    static let size = 16

    public var nic: UInt16
    public var sight: UplinkSight
    public var isInside: Bool
    public var order: UInt32

    public init(nic: UInt16, sight: UplinkSight, isInside: Bool, order: UInt32) {
        self.nic = nic
        self.sight = sight
        self.isInside = isInside
        self.order = order
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.carryNews, body)
        nic = try fields.number(UInt16.self)
        let flags = try fields.number(UInt16.self)
        guard flags < 16 else { throw fields.malformed(at: 2, "flags \(flags) are not all defined") }
        order = try fields.number(UInt32.self)
        let missed = try fields.number(UInt32.self)
        guard flags & 4 != 0 || missed == 0 else { throw fields.malformed(at: 8, "probes are missed and not expected") }
        sight = UplinkSight(
            isThere: flags & 1 != 0, isConnected: flags & 2 != 0, missed: flags & 4 != 0 ? missed : nil,
            sources: try fields.number(UInt32.self))
        isInside = flags & 8 != 0
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        let flags: [(Bool, UInt16)] = [
            (sight.isThere, 1), (sight.isConnected, 2), (sight.missed != nil, 4), (isInside, 8),
        ]
        sink.append(nic)
        sink.append(flags.reduce(UInt16(0)) { $1.0 ? $0 | $1.1 : $0 })
        sink.append(order)
        sink.append(sight.missed ?? 0)
        sink.append(sight.sources)
    }
}

/// Frames that a carried NIC sent, or that are for it, in order, laid out as in `OutputFrame`: each a big-endian u32 length and its
/// bytes, which begin with a `struct virtio_net_hdr_mrg_rxbuf` of 12 bytes.
public struct CarriedFrames: PacketBody {
    public static let type = FrameType.carried

    public var nic: UInt16
    public var count: UInt32
    public var packets: UnsafeRawBufferPointer

    public init(nic: UInt16, count: UInt32, packets: UnsafeRawBufferPointer) {
        self.nic = nic
        self.count = count
        self.packets = packets
    }
}
