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

/// The owner of the register asks its standby not to run the guest for a while (`LeaseMachine`).
///
///      0  question  u64   random
///      8  term      u64   the owner's, at least 1
public struct PromiseAsked: FrameBody, Equatable, Sendable {
    public static let type = FrameType.promiseAsked
    static let size = 16

    public var question: UInt64
    public var term: Term

    public init(question: UInt64, term: Term) {
        self.question = question
        self.term = term
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        (question, term) = try readPromise(.promiseAsked, body)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(question)
        sink.append(term.number)
    }
}

/// The standby's promise; the fields are those of the question.
public struct Promise: FrameBody, Equatable, Sendable {
    public static let type = FrameType.promise

    public var question: UInt64
    public var term: Term

    public init(question: UInt64, term: Term) {
        self.question = question
        self.term = term
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        (question, term) = try readPromise(.promise, body)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(question)
        sink.append(term.number)
    }
}

private func readPromise(_ type: FrameType, _ body: UnsafeRawBufferPointer) throws(WireError) -> (UInt64, Term) {
    var fields = FieldReader(type, body)
    let question = try fields.number(UInt64.self)
    let term = Term(try fields.number(UInt64.self))
    guard term.number > 0 else { throw fields.malformed(at: 8, "term 0 does not exist") }
    try fields.end()
    return (question, term)
}
