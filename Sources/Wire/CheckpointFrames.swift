import Model

/// The SHA-256 that stands for a whole checkpoint: over the 32-byte headers of its frames, in order. Each header holds
/// the checksum of its body, so the digest speaks for those too.
public struct CheckpointDigest: Hashable, Sendable, CustomStringConvertible {
    public static let size = 32
    private let words: [4 of UInt64]

    /// - Parameter bytes: exactly 32.
    public init(_ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count == CheckpointDigest.size, "a checkpoint's digest has 32 bytes")
        words = [4 of UInt64] { bytes.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self).littleEndian }
    }

    func write(into sink: inout ByteSink) {
        for index in words.indices { sink.append(words[index]) }
    }

    /// 64 hexadecimal digits.
    public var description: String {
        var text = ""
        for index in words.indices { text += hex(words[index].byteSwapped) }
        return text
    }

    public static func == (a: CheckpointDigest, b: CheckpointDigest) -> Bool {
        a.words.indices.allSatisfy { a.words[$0] == b.words[$0] }
    }

    public func hash(into hasher: inout Hasher) {
        for index in words.indices { hasher.combine(words[index]) }
    }
}

/// The end of an epoch: what belonged to it. The standby has staged the checkpoint when its own counts and digest are
/// the ones told here.
///
/// Counted are the frames of the types in `Section.types` that carry the epoch's number, headers included.
///
///      0  frameCount    u32
///      4  sectionCount  u8    0...5
///      5  reserved      3
///      8  byteCount     u64
///     16  digest        32
///     48  sections            each: type u8, reserved 3, frames u32 (at least 1), bytes u64; types rising, sums as above
public struct CheckpointEnd: FrameBody, Equatable, Sendable {
    /// How much of one type of frame belonged to the epoch.
    public struct Section: Equatable, Sendable {
        /// The types that make up a checkpoint.
        public static let types: [FrameType] = [.pages, .deviceState, .output, .diskWrite, .diskZero]
        static let size = 16

        public var type: FrameType
        public var frames: UInt32
        /// Headers and bodies.
        public var bytes: UInt64

        public init(type: FrameType, frames: UInt32, bytes: UInt64) {
            self.type = type
            self.frames = frames
            self.bytes = bytes
        }
    }

    public static let type = FrameType.checkpointEnd
    static let headSize = 48
    static let sizeMax = headSize + 5 * Section.size

    public var frameCount: UInt32
    public var byteCount: UInt64
    public var digest: CheckpointDigest
    /// One for each type that occurred, types rising.
    public var sections: [Section]

    /// The counts are the sums over `sections`.
    public init(digest: CheckpointDigest, sections: [Section]) {
        self.digest = digest
        self.sections = sections
        frameCount = sections.reduce(0) { $0 + $1.frames }
        byteCount = sections.reduce(0) { $0 + $1.bytes }
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.checkpointEnd, body)
        frameCount = try fields.number(UInt32.self)
        let count = Int(try fields.number(UInt8.self))
        guard count <= Section.types.count else {
            throw fields.malformed(at: 4, "\(count) sections are more than the \(Section.types.count) there can be")
        }
        try fields.reserved(3)
        byteCount = try fields.number(UInt64.self)
        digest = CheckpointDigest(try fields.take(CheckpointDigest.size))
        sections = []
        var frames: UInt32 = 0
        var bytes: UInt64 = 0
        for _ in 0..<count {
            let section = try CheckpointEnd.section(&fields, after: sections.last)
            let (frameSum, framesOverflow) = frames.addingReportingOverflow(section.frames)
            let (byteSum, bytesOverflow) = bytes.addingReportingOverflow(section.bytes)
            guard !framesOverflow, !bytesOverflow else {
                throw fields.malformed(at: fields.offset, "the sums of the sections overflow")
            }
            (frames, bytes) = (frameSum, byteSum)
            sections.append(section)
        }
        guard frames == frameCount, bytes == byteCount else {
            throw fields.malformed(
                at: 0,
                "the sections add up to \(frames) frames and \(bytes) bytes, not \(frameCount) and \(byteCount)")
        }
        try fields.end()
    }

    private static func section(_ fields: inout FieldReader, after last: Section?) throws(WireError) -> Section {
        let at = fields.offset
        let number = try fields.number(UInt8.self)
        guard let type = FrameType(rawValue: number), Section.types.contains(type),
            number > last?.type.rawValue ?? 0
        else { throw fields.malformed(at: at, "section type \(number) is unknown or out of order") }
        try fields.reserved(3)
        let frames = try fields.number(UInt32.self)
        let bytes = try fields.number(UInt64.self)
        guard frames > 0 else { throw fields.malformed(at: at + 4, "a section of no frames is not listed") }
        return Section(type: type, frames: frames, bytes: bytes)
    }

    public func write(into sink: inout ByteSink) {
        sink.append(frameCount)
        sink.append(UInt8(sections.count))
        sink.append(zeros: 3)
        sink.append(byteCount)
        digest.write(into: &sink)
        for section in sections {
            sink.append(section.type.rawValue)
            sink.append(zeros: 3)
            sink.append(section.frames)
            sink.append(section.bytes)
        }
    }
}

/// The standby holds the epoch's checkpoint whole and checked: 32 bytes, the digest it found.
public struct Ack: FrameBody, Equatable, Sendable {
    public static let type = FrameType.ack
    static let size = CheckpointDigest.size

    public var digest: CheckpointDigest

    public init(digest: CheckpointDigest) { self.digest = digest }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.ack, body)
        digest = CheckpointDigest(try fields.take(CheckpointDigest.size))
        try fields.end()
    }

    public func write(into sink: inout ByteSink) { digest.write(into: &sink) }
}

/// The output of the header's epoch, and of those before it, has left the primary; the body is empty.
public struct Released: FrameBody, Equatable, Sendable {
    public static let type = FrameType.released
    static let size = 0

    public init() {}

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        try FieldReader(.released, body).end()
    }

    public func write(into sink: inout ByteSink) {}
}

/// The first copy is whole: every page and disk block was sent once; the next checkpoint can be resumed from.
///
///      0  frameCount  u64   data frames of epoch 0, types as in `CheckpointEnd.Section.types`
///      8  byteCount   u64   their headers and bodies
public struct Synced: FrameBody, Equatable, Sendable {
    public static let type = FrameType.synced
    static let size = 16

    public var frameCount: UInt64
    public var byteCount: UInt64

    public init(frameCount: UInt64, byteCount: UInt64) {
        self.frameCount = frameCount
        self.byteCount = byteCount
    }

    public init(parsing body: UnsafeRawBufferPointer) throws(WireError) {
        var fields = FieldReader(.synced, body)
        frameCount = try fields.number(UInt64.self)
        byteCount = try fields.number(UInt64.self)
        try fields.end()
    }

    public func write(into sink: inout ByteSink) {
        sink.append(frameCount)
        sink.append(byteCount)
    }
}
