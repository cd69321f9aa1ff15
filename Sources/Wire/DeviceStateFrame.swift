import Model

/// A piece of an epoch's device state, as the codec made it of what QEMU wrote. The pieces of one state are consecutive
/// `deviceState` frames of its epoch: the first at offset 0, each next where the one before ended, the last ending at
/// `total`. A state that fits is one piece.
///
///      0  total    u32   bytes of the whole encoded state, 1...totalMax
///      4  offset   u32   where this piece belongs
///      8  payload        at least one byte, ending at most at `total`
public struct DeviceStateFrame: FrameBody {
    public static let type = FrameType.deviceState
    static let headSize = 8
    /// The longest encoded state in bytes.
    public static let totalMax = 64 << 20
    /// The longest piece in bytes.
    public static let payloadMax = FrameType.deviceState.bodyMax - headSize

    public var total: UInt32
    public var offset: UInt32
    public var payload: UnsafeRawBufferPointer

    public init(total: UInt32, offset: UInt32, payload: UnsafeRawBufferPointer) {
        self.total = total
        self.offset = offset
        self.payload = payload
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.deviceState, body)
        total = try fields.number(UInt32.self)
        guard (1...UInt32(DeviceStateFrame.totalMax)).contains(total) else {
            throw fields.malformed(at: 0, "a state of \(total) bytes is not in 1...\(DeviceStateFrame.totalMax)")
        }
        offset = try fields.number(UInt32.self)
        payload = fields.rest()
        guard !payload.isEmpty, payload.count <= Int(total) - Int(offset) else {
            throw fields.malformed(
                at: 4, "a piece of \(payload.count) bytes at \(offset) does not fit a state of \(total) bytes")
        }
    }

    public func write(into sink: inout ByteSink) {
        sink.append(total)
        sink.append(offset)
        sink.append(contentsOf: payload)
    }
}
