import Model

/// What came before of a disk's writes, and belongs to no checkpoint, is to be on stable storage (fdatasync). Counts as one of these
/// writes.
///
///      0  disk  u16
public struct DiskFlush: FrameBody, Equatable, Sendable {
    public static let type = FrameType.diskFlush
    static let size = 2

    public var disk: UInt16

    public init(disk: UInt16) { self.disk = disk }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskFlush, body)
        disk = try fields.number(UInt16.self)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) { sink.append(disk) }
}

/// Whether the owner's copy of a disk is whole, and the answer, which repeats it.
///
///      0  disk  u16
///      2  loss  u64   the how-manieth loss of this disk in this session; 0 when its copy is whole again
protocol DiskNoteBody: FrameBody {
    var disk: UInt16 { get }
    var loss: UInt64 { get }
    init(disk: UInt16, loss: UInt64)
}

extension DiskNoteBody {
    static var size: Int { 10 }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(Self.type, body)
        let disk = try fields.number(UInt16.self)
        let loss = try fields.number(UInt64.self)
        try fields.end()
        self.init(disk: disk, loss: loss)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(disk)
        sink.append(loss)
    }
}

/// The owner's copy of the disk is lost, or whole again.
public struct DiskNote: DiskNoteBody, Equatable, Sendable {
    public static let type = FrameType.diskNote

    public var disk: UInt16
    public var loss: UInt64

    public init(disk: UInt16, loss: UInt64) {
        self.disk = disk
        self.loss = loss
    }
}

/// The standby has written that down.
public struct DiskNoted: DiskNoteBody, Equatable, Sendable {
    public static let type = FrameType.diskNoted

    public var disk: UInt16
    public var loss: UInt64

    public init(disk: UInt16, loss: UInt64) {
        self.disk = disk
        self.loss = loss
    }
}
