import Model

/// At a level whose output is not held: the standby has written the first `count` of the disk writes and zeros that belong to no
/// checkpoint into its images.
///
///      0  count  u64   of the session's `diskWrite` and `diskZero` frames of that kind; at least 1, rising
public struct DiskTaken: FrameBody, Equatable, Sendable {
    public static let type = FrameType.diskTaken
    static let size = 8

    public var count: UInt64

    public init(count: UInt64) { self.count = count }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.diskTaken, body)
        count = try fields.number(UInt64.self)
        guard count > 0 else { throw fields.malformed(at: 0, "count is 0, which says nothing") }
        try fields.end()
    }

    public func write(into sink: inout ByteSink) { sink.append(count) }
}

/// The disk frames of the header's epoch will belong to no checkpoint: they are written into the images as they come, and
/// `DiskTaken` answers for them. Comes before the first of them; the body is empty.
public struct Through: FrameBody, Equatable, Sendable {
    public static let type = FrameType.through
    static let size = 0

    public init() {}

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        try FieldReader(.through, body).end()
    }

    public func write(into sink: inout ByteSink) {}
}

/// A question of the owner's about its lease (`LeaseMachine`), and the answer, which repeats it.
///
///      0  question  u64   random
///      8  term      u64   the owner's, at least 1
protocol PromiseBody: FrameBody {
    var question: UInt64 { get }
    var term: Term { get }
    init(question: UInt64, term: Term)
}

extension PromiseBody {
    static var size: Int { 16 }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(Self.type, body)
        let question = try fields.number(UInt64.self)
        let term = Term(try fields.number(UInt64.self))
        guard term.number > 0 else { throw fields.malformed(at: 8, "term 0 does not exist") }
        try fields.end()
        self.init(question: question, term: term)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(question)
        sink.append(term.number)
    }
}

/// The owner of the register asks its standby not to run the guest for a while.
public struct PromiseAsked: PromiseBody, Equatable, Sendable {
    public static let type = FrameType.promiseAsked

    public var question: UInt64
    public var term: Term

    public init(question: UInt64, term: Term) {
        self.question = question
        self.term = term
    }
}

/// The standby's promise.
public struct Promise: PromiseBody, Equatable, Sendable {
    public static let type = FrameType.promise

    public var question: UInt64
    public var term: Term

    public init(question: UInt64, term: Term) {
        self.question = question
        self.term = term
    }
}
