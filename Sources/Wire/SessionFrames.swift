import Model

/// A sign of life. Each side sends its own clock and the newest one it heard, so that the other can tell the round trip;
/// the clocks are never compared with each other.
///
///      0  sent  u64   the sender's monotonic clock in nanoseconds
///      8  echo  u64   `sent` of the last heartbeat received, 0 before the first
public struct Heartbeat: FrameBody, Equatable, Sendable {
    public static let type = FrameType.heartbeat
    static let size = 16

    public var sent: UInt64
    public var echo: UInt64

    public init(sent: UInt64, echo: UInt64) {
        self.sent = sent
        self.echo = echo
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.heartbeat, body)
        sent = try fields.number(UInt64.self)
        echo = try fields.number(UInt64.self)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(sent)
        sink.append(echo)
    }
}

/// The primary's QEMU is dead and stays so: the standby continues from its last committed checkpoint, under `term`.
///
///      0  term  u64   at least 1
public struct TakeOver: FrameBody, Equatable, Sendable {
    public static let type = FrameType.takeOver
    static let size = 8

    public var term: Term

    public init(term: Term) { self.term = term }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.takeOver, body)
        term = Term(try fields.number(UInt64.self))
        guard term.number > 0 else { throw fields.malformed(at: 0, "term 0 does not exist") }
        try fields.end()
    }

    public func write(into sink: inout ByteSink) { sink.append(term.number) }
}
