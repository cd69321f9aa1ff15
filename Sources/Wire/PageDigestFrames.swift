import Model

/// A question for the digests of pages of the replica's memory, so that equal pages need not be sent.
///
///      0  block     u16   position in the list of the offer
///      2  reserved  u16
///      4  first     u32   number of the first page
///      8  count     u32   pages, 1...countMax; first + count fits a u32
public struct PageDigests: FrameBody, Hashable, Sendable {
    public static let type = FrameType.pageDigests
    static let size = 12
    /// The most pages that one question asks for: 512 MiB of memory, 2 MiB of answer.
    public static let countMax = 131_072

    public var block: UInt16
    public var first: UInt32
    public var count: UInt32

    public init(block: UInt16, first: UInt32, count: UInt32) {
        self.block = block
        self.first = first
        self.count = count
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.pageDigests, body)
        block = try fields.number(UInt16.self)
        try fields.reserved(2)
        first = try fields.number(UInt32.self)
        count = try fields.number(UInt32.self)
        guard (1...UInt32(PageDigests.countMax)).contains(count) else {
            throw fields.malformed(at: 8, "\(count) pages are asked for, not 1...\(PageDigests.countMax)")
        }
        try fields.checkPages(at: 4, first: first, count: count)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(block)
        sink.append(zeros: 2)
        sink.append(first)
        sink.append(count)
    }
}

/// The answer to `PageDigests`, echoing what was asked.
///
///      0  block     u16
///      2  reserved  u16
///      4  first     u32
///      8  digests         16 bytes for each page: the first half of its SHA-256
public struct PageDigestsReply: FrameBody {
    public static let type = FrameType.pageDigestsReply
    static let headSize = 8
    /// Bytes for each page.
    public static let digestSize = 16

    public var block: UInt16
    public var first: UInt32
    /// `count` digests one after the other.
    public var digests: UnsafeRawBufferPointer

    public var count: Int { digests.count / PageDigestsReply.digestSize }

    public init(block: UInt16, first: UInt32, digests: UnsafeRawBufferPointer) {
        self.block = block
        self.first = first
        self.digests = digests
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.pageDigestsReply, body)
        block = try fields.number(UInt16.self)
        try fields.reserved(2)
        first = try fields.number(UInt32.self)
        digests = fields.rest()
        let count = digests.count / PageDigestsReply.digestSize
        guard digests.count % PageDigestsReply.digestSize == 0, (1...PageDigests.countMax).contains(count) else {
            throw fields.malformed(
                at: 8, "\(digests.count) bytes are not 1...\(PageDigests.countMax) digests of 16 bytes")
        }
        try fields.checkPages(at: 4, first: first, count: UInt32(count))
    }

    public func write(into sink: inout ByteSink) {
        sink.append(block)
        sink.append(zeros: 2)
        sink.append(first)
        sink.append(contentsOf: digests)
    }
}

extension FieldReader {
    /// Page numbers are 32 bits wide.
    fileprivate func checkPages(at field: Int, first: UInt32, count: UInt32) throws(WireError) {
        guard !first.addingReportingOverflow(count).overflow else {
            throw malformed(at: field, "\(count) pages from page \(first) end beyond any block")
        }
    }
}
