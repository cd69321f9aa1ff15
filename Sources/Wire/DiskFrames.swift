import Model

/// Bytes that the guest wrote to a disk.
///
///      0  disk      u16   position in the list of the offer
///      2  reserved  6
///      8  offset    u64   in bytes
///     16  data            at least one byte; offset + count fits an Int64
public struct DiskWrite: FrameBody {
    public static let type = FrameType.diskWrite
    /// Bytes of a body before its data, for writers that send head and data from two places.
    public static let headSize = 16
    /// The most data that fits one frame, in bytes.
    public static let dataMax = FrameType.diskWrite.bodyMax - headSize

    public var disk: UInt16
    public var offset: UInt64
    public var data: UnsafeRawBufferPointer

    public init(disk: UInt16, offset: UInt64, data: UnsafeRawBufferPointer) {
        self.disk = disk
        self.offset = offset
        self.data = data
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskWrite, body)
        disk = try fields.number(UInt16.self)
        try fields.reserved(6)
        offset = try fields.number(UInt64.self)
        data = fields.rest()
        guard !data.isEmpty else { throw fields.malformed(at: 16, "it carries no data") }
        try fields.checkRange(at: 8, offset: offset, length: UInt64(data.count))
    }

    public func write(into sink: inout ByteSink) {
        writeHead(into: &sink)
        sink.append(contentsOf: data)
    }

    /// The body up to the data.
    public func writeHead(into sink: inout ByteSink) {
        sink.append(disk)
        sink.append(zeros: 6)
        sink.append(offset)
    }
}

/// A range of a disk that the guest made zero or discarded.
///
///      0  disk      u16
///      2  mayUnmap  u8    1 when the standby may give the space back, else 0
///      3  reserved  5
///      8  offset    u64   in bytes
///     16  length    u64   in bytes, at least 1; offset + length fits an Int64
public struct DiskZero: FrameBody, Equatable, Sendable {
    public static let type = FrameType.diskZero
    static let size = 24

    public var disk: UInt16
    public var mayUnmap: Bool
    public var offset: UInt64
    public var length: UInt64

    public init(disk: UInt16, mayUnmap: Bool, offset: UInt64, length: UInt64) {
        self.disk = disk
        self.mayUnmap = mayUnmap
        self.offset = offset
        self.length = length
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskZero, body)
        disk = try fields.number(UInt16.self)
        let mayUnmap = try fields.number(UInt8.self)
        guard mayUnmap <= 1 else { throw fields.malformed(at: 2, "mayUnmap is \(mayUnmap), not 0 or 1") }
        self.mayUnmap = mayUnmap == 1
        try fields.reserved(5)
        offset = try fields.number(UInt64.self)
        length = try fields.number(UInt64.self)
        guard length > 0 else { throw fields.malformed(at: 16, "its range is empty") }
        try fields.checkRange(at: 8, offset: offset, length: length)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(disk)
        sink.append(UInt8(mayUnmap ? 1 : 0))
        sink.append(zeros: 5)
        sink.append(offset)
        sink.append(length)
    }
}

/// A question for bytes of the replica's disk. It is answered by a `DiskReadReply` of the same id, in any order.
///
///      0  id        u64   chosen by the asker
///      8  disk      u16
///     10  reserved  u16
///     12  length    u32   in bytes, 1...DiskReadReply.dataMax
///     16  offset    u64   in bytes
public struct DiskRead: FrameBody, Equatable, Sendable {
    public static let type = FrameType.diskRead
    static let size = 24

    public var id: UInt64
    public var disk: UInt16
    public var offset: UInt64
    public var length: UInt32

    public init(id: UInt64, disk: UInt16, offset: UInt64, length: UInt32) {
        self.id = id
        self.disk = disk
        self.offset = offset
        self.length = length
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskRead, body)
        id = try fields.number(UInt64.self)
        disk = try fields.number(UInt16.self)
        try fields.reserved(2)
        length = try fields.number(UInt32.self)
        guard (1...UInt32(DiskReadReply.dataMax)).contains(length) else {
            throw fields.malformed(at: 12, "\(length) bytes are asked for, not 1...\(DiskReadReply.dataMax)")
        }
        offset = try fields.number(UInt64.self)
        try fields.checkRange(at: 16, offset: offset, length: UInt64(length))
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(id)
        sink.append(disk)
        sink.append(zeros: 2)
        sink.append(length)
        sink.append(offset)
    }
}

/// The answer to a `DiskRead`.
///
///      0  id        u64
///      8  status    u32   0, or the errno of the failure; then there is no data
///     12  reserved  u32
///     16  data            as many bytes as were asked for; the asker checks that
public struct DiskReadReply: FrameBody {
    public static let type = FrameType.diskReadReply
    static let headSize = 16
    /// The most data that one reply carries, in bytes.
    public static let dataMax = FrameType.diskReadReply.bodyMax - headSize

    public var id: UInt64
    public var status: UInt32
    public var data: UnsafeRawBufferPointer

    public init(id: UInt64, status: UInt32, data: UnsafeRawBufferPointer) {
        self.id = id
        self.status = status
        self.data = data
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskReadReply, body)
        id = try fields.number(UInt64.self)
        status = try fields.number(UInt32.self)
        try fields.reserved(4)
        data = fields.rest()
        guard (status == 0) != data.isEmpty else {
            throw fields.malformed(at: 8, "status \(status) comes with \(data.count) bytes of data")
        }
    }

    public func write(into sink: inout ByteSink) {
        sink.append(id)
        sink.append(status)
        sink.append(zeros: 4)
        sink.append(contentsOf: data)
    }
}

/// A question for the digests of chunks of the replica's disk, so that equal chunks need not be sent.
///
///      0  disk       u16
///      2  reserved   u16
///      4  chunkSize  u32   in bytes, a power of two, 4096...16 MiB
///      8  first      u64   number of the first chunk
///     16  count      u32   chunks, 1...countMax
///     20  reserved   u32
public struct DiskDigests: FrameBody, Equatable, Sendable {
    public static let type = FrameType.diskDigests
    static let size = 24
    /// The most chunks that one question asks for.
    public static let countMax = 131_072

    public var disk: UInt16
    public var chunkSize: UInt32
    public var first: UInt64
    public var count: UInt32

    public init(disk: UInt16, chunkSize: UInt32, first: UInt64, count: UInt32) {
        self.disk = disk
        self.chunkSize = chunkSize
        self.first = first
        self.count = count
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskDigests, body)
        disk = try fields.number(UInt16.self)
        try fields.reserved(2)
        chunkSize = try fields.chunkSize()
        first = try fields.number(UInt64.self)
        count = try fields.number(UInt32.self)
        guard (1...UInt32(DiskDigests.countMax)).contains(count) else {
            throw fields.malformed(at: 16, "\(count) chunks are asked for, not 1...\(DiskDigests.countMax)")
        }
        try fields.checkChunks(at: 8, first: first, count: UInt64(count), size: chunkSize)
        try fields.reserved(4)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(disk)
        sink.append(zeros: 2)
        sink.append(chunkSize)
        sink.append(first)
        sink.append(count)
        sink.append(zeros: 4)
    }
}

/// The answer to `DiskDigests`, echoing what was asked.
///
///      0  disk       u16
///      2  reserved   u16
///      4  chunkSize  u32
///      8  first      u64
///     16  digests          16 bytes for each chunk: the first half of its SHA-256
public struct DiskDigestsReply: FrameBody {
    public static let type = FrameType.diskDigestsReply
    static let headSize = 16
    /// Bytes for each chunk.
    public static let digestSize = 16

    public var disk: UInt16
    public var chunkSize: UInt32
    public var first: UInt64
    /// `count` digests one after the other.
    public var digests: UnsafeRawBufferPointer

    public var count: Int { digests.count / DiskDigestsReply.digestSize }

    public init(disk: UInt16, chunkSize: UInt32, first: UInt64, digests: UnsafeRawBufferPointer) {
        self.disk = disk
        self.chunkSize = chunkSize
        self.first = first
        self.digests = digests
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskDigestsReply, body)
        disk = try fields.number(UInt16.self)
        try fields.reserved(2)
        chunkSize = try fields.chunkSize()
        first = try fields.number(UInt64.self)
        digests = fields.rest()
        let count = digests.count / DiskDigestsReply.digestSize
        guard digests.count % DiskDigestsReply.digestSize == 0, (1...DiskDigests.countMax).contains(count) else {
            throw fields.malformed(
                at: 16, "\(digests.count) bytes are not 1...\(DiskDigests.countMax) digests of 16 bytes")
        }
        try fields.checkChunks(at: 8, first: first, count: UInt64(count), size: chunkSize)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(disk)
        sink.append(zeros: 2)
        sink.append(chunkSize)
        sink.append(first)
        sink.append(contentsOf: digests)
    }
}

extension FieldReader {
    /// Disks are at most 2^63 - 1 bytes, so that every end of a range fits the kernel's file offsets.
    func checkRange(at field: Int, offset start: UInt64, length: UInt64) throws(WireError) {
        let (end, overflow) = start.addingReportingOverflow(length)
        guard !overflow, end <= UInt64(Int64.max) else {
            throw malformed(at: field, "a range of \(length) bytes at \(start) ends beyond any disk")
        }
    }

    func checkChunks(at field: Int, first: UInt64, count: UInt64, size: UInt32) throws(WireError) {
        let (last, added) = first.addingReportingOverflow(count)
        let (end, multiplied) = last.multipliedReportingOverflow(by: UInt64(size))
        guard !added, !multiplied, end <= UInt64(Int64.max) else {
            throw malformed(at: field, "\(count) chunks of \(size) bytes from chunk \(first) end beyond any disk")
        }
    }

    mutating func chunkSize() throws(WireError) -> UInt32 {
        let at = offset
        let size = try number(UInt32.self)
        guard (4096...16 << 20).contains(size), size.nonzeroBitCount == 1 else {
            throw malformed(at: at, "a chunk size of \(size) is not a power of two in 4096...16777216")
        }
        return size
    }
}
