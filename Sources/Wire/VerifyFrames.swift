import Model

/// A question for digests of the replica's memory as it is at the checkpoint of the header's epoch, so that it can be compared
/// with the guest's. The standby answers it after it applied that checkpoint and before it applies the next.
///
///      0  session  u64
///      8  runs           at least one, `pagesMax` pages in all at most, 12 bytes each:
///                        block u16, reserved u16, first u32, count u32 (at least 1; first + count fits a u32)
public struct VerifyQuestion: FrameBody, Equatable, Sendable {
    public static let type = FrameType.verify
    static let headSize = 8
    static let runSize = 12
    /// The most pages that one question asks for: 64 MiB of memory, 256 KiB of answer.
    public static let pagesMax = 16_384
    static let sizeMax = headSize + pagesMax * runSize

    public var session: SessionID
    public var runs: [PageRun]

    public init(session: SessionID, runs: [PageRun]) {
        self.session = session
        self.runs = runs
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.verify, body)
        session = SessionID(try fields.number(UInt64.self))
        runs = []
        var pages = 0
        repeat {
            let at = fields.offset
            let block = try fields.number(UInt16.self)
            try fields.reserved(2)
            let first = try fields.number(UInt32.self)
            let count = try fields.number(UInt32.self)
            guard count > 0, !first.addingReportingOverflow(count).overflow else {
                throw fields.malformed(at: at + 4, "\(count) pages from page \(first) are in no block")
            }
            pages += Int(count)
            guard pages <= Self.pagesMax else {
                throw fields.malformed(at: at + 8, "\(pages) pages are more than \(Self.pagesMax)")
            }
            runs.append(PageRun(block: block, first: first, count: count))
        } while fields.remaining > 0
    }

    public func write(into sink: inout ByteSink) {
        sink.append(session.number)
        for run in runs {
            sink.append(run.block)
            sink.append(zeros: 2)
            sink.append(run.first)
            sink.append(run.count)
        }
    }
}

/// The answer to `VerifyQuestion`, with its epoch in the header.
///
///      0  session  u64
///      8  digests        16 bytes for each page that was asked for, in order; none when the replica is at another epoch
public struct VerifyReply: FrameBody {
    public static let type = FrameType.verifyReply
    static let headSize = 8
    static let sizeMax = headSize + VerifyQuestion.pagesMax * PageDigestsReply.digestSize

    public var session: SessionID
    public var digests: UnsafeRawBufferPointer

    public init(session: SessionID, digests: UnsafeRawBufferPointer) {
        self.session = session
        self.digests = digests
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.verifyReply, body)
        session = SessionID(try fields.number(UInt64.self))
        digests = fields.rest()
        guard digests.count % PageDigestsReply.digestSize == 0, body.count <= Self.sizeMax else {
            throw fields.malformed(
                at: 8, "\(digests.count) bytes are not 0...\(VerifyQuestion.pagesMax) digests of 16 bytes")
        }
    }

    public func write(into sink: inout ByteSink) {
        sink.append(session.number)
        sink.append(contentsOf: digests)
    }
}
