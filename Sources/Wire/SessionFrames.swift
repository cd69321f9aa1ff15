import Model

/// A sign of life. Who is asked says when what it is answering was sent, so that the other can tell the round trip; the clocks
/// of the two are never compared with each other.
///
///      0  sent  u64   the sender's monotonic clock in nanoseconds
///      8  echo  u64   in an answer, `sent` of the heartbeat that it answers; else 0, or `ask`
public struct Heartbeat: FrameBody, Equatable, Sendable {
    public static let type = FrameType.heartbeat
    static let size = 16
    /// The `echo` of a session's heartbeat that wants to be answered. On a second path each is.
    public static let ask = UInt64.max

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

/// The standby shall continue from its last committed checkpoint, under `term`: the primary's QEMU is dead, or the guest
/// stands still there for a switchover.
///
///      0  term         u64   at least 1
///      8  guestStands  u8    1 for a switchover, else 0
///      9  starts       u8    below `system`: how often the primary started the guest lately, which it cannot start again; else 0
///     10  reserved     6
public struct TakeOver: FrameBody, Equatable, Sendable {
    public static let type = FrameType.takeOver
    static let size = 16

    public var term: Term
    public var guestStands: Bool
    public var starts: UInt8

    public init(term: Term, guestStands: Bool, starts: UInt8 = 0) {
        self.term = term
        self.guestStands = guestStands
        self.starts = starts
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.takeOver, body)
        term = Term(try fields.number(UInt64.self))
        guard term.number > 0 else { throw fields.malformed(at: 0, "term 0 does not exist") }
        let guestStands = try fields.number(UInt8.self)
        guard guestStands <= 1 else { throw fields.malformed(at: 8, "guestStands is \(guestStands), not 0 or 1") }
        self.guestStands = guestStands == 1
        starts = try fields.number(UInt8.self)
        try fields.reserved(6)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(term.number)
        sink.append(UInt8(guestStands ? 1 : 0))
        sink.append(starts)
        sink.append(zeros: 6)
    }
}
