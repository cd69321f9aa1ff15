import Model

/// The first frame of each connection of a link that has several: what belongs together.
///
///      0  key     16 bytes  the link's, random, the same on all of its connections
///     16  stream  u8        which connection this is: 0 is the first one, `FrameHeader.sequence` of a `turn` names the others
public struct Join: FrameBody, Equatable, Sendable {
    public static let type = FrameType.join
    static let size = 17

    public var key: StreamKey
    public var stream: UInt8

    public init(key: StreamKey, stream: UInt8) {
        self.key = key
        self.stream = stream
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.join, body)
        key = StreamKey(high: try fields.number(UInt64.self), low: try fields.number(UInt64.self))
        stream = try fields.number(UInt8.self)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(key.high)
        sink.append(key.low)
        sink.append(stream)
    }
}

/// Tells one link of several connections from all others.
public struct StreamKey: Hashable, Sendable {
    var high: UInt64
    var low: UInt64

    /// A new one, from the system's random numbers.
    public static func random() -> StreamKey {
        var generator = SystemRandomNumberGenerator()
        return StreamKey(high: generator.next(), low: generator.next())
    }
}

extension FrameHeader {
    /// Stands on a link's first connection for a frame that was sent on connection `stream`: the next one there that has not
    /// had its turn.
    public static func turn(stream: UInt8) -> FrameHeader {
        FrameHeader(type: .turn, length: 0, epoch: 0, sequence: UInt32(stream), bodyCRC: 0)
    }
}
