import CKernels
import Model

/// Compresses a device state, alone or against an earlier one that the standby holds too. One per thread.
///
/// What it makes is 12 bytes of head and the contents:
///
///      0  form      u8    1 stored, 2 zstd, 3 zstd against the previous state, 4 changes (`ByteChanges`) of the previous one
///      1  reserved  3
///      4  length    u32   of the state, in bytes
///      8  previous  u32   CRC-32C of the previous state for forms 3 and 4, else 0
public struct BlobCodec: ~Copyable {
    /// The longest state in bytes.
    public static let lengthMax = 32 << 20
    static let headSize = 12

    private enum Form: UInt8 {
        case stored = 1
        case zstd = 2
        case zstdAgainstPrevious = 3
        case changes = 4

        var buildsOnPrevious: Bool { self == .zstdAgainstPrevious || self == .changes }
    }

    /// More than this is compressed instead.
    private static let changesMax = 8 << 10

    // Level 3 finds a previous state of megabytes again, level 1 does not; at tens of kilobytes they are equally fast.
    private var compressor = Compressor(level: 3)
    private var decompressor = Decompressor()

    public init() {}

    /// Appends the compressed form of `state` to `sink`; returns the bytes appended.
    /// - Parameters:
    ///   - state: at most `lengthMax` bytes.
    ///   - previous: a state that the standby is known to hold, at most `lengthMax` bytes; nil when there is none.
    public mutating func encode(
        _ state: UnsafeRawBufferPointer, previous: UnsafeRawBufferPointer? = nil, into sink: inout ByteSink
    ) -> Int {
        precondition(state.count <= Self.lengthMax, "a device state has at most BlobCodec.lengthMax bytes")
        let prefix = previous.flatMap { $0.isEmpty || $0.count > Self.lengthMax ? nil : $0 }
        let start = sink.count
        let target = sink.reserve(Self.headSize + state.count) + Self.headSize
        var form = Form.changes
        var written = prefix.flatMap { previous in
            previous.count == state.count
                ? ByteChanges.write(
                    of: state, since: previous,
                    into: UnsafeMutableRawBufferPointer(start: target, count: min(state.count, Self.changesMax)))
                : nil
        }
        if written == nil {
            written = compressor.compress(state, with: .zstd, to: target, room: state.count - 1, prefix: prefix)
            form = written == nil ? .stored : prefix == nil ? .zstd : .zstdAgainstPrevious
        }
        sink.append(form.rawValue)
        sink.append(zeros: 3)
        sink.append(UInt32(state.count))
        sink.append(form.buildsOnPrevious ? Self.checksum(prefix) : 0)
        if let written { sink.commit(written) } else { sink.append(contentsOf: state) }
        return sink.count - start
    }

    /// Appends the state that `body` stands for to `sink`.
    /// - Parameter previous: the state that `encode` was given, needed if it was used.
    public mutating func decode(
        _ body: UnsafeRawBufferPointer, previous: UnsafeRawBufferPointer? = nil, into sink: inout ByteSink
    ) throws(CodecError) {
        let part = "device state"
        guard body.count >= Self.headSize else {
            throw .truncated(part: part, offset: body.count, needed: Self.headSize)
        }
        guard let form = Form(rawValue: body[0]) else {
            throw .malformed(part: part, offset: 0, reason: "form \(body[0]) does not exist")
        }
        guard body[1] == 0, body[2] == 0, body[3] == 0 else {
            throw .malformed(part: part, offset: 1, reason: "reserved bytes are not zero")
        }
        let length = Int(body.loadUnaligned(fromByteOffset: 4, as: UInt32.self).littleEndian)
        guard length <= Self.lengthMax else {
            throw .malformed(part: part, offset: 4, reason: "\(length) bytes are more than \(Self.lengthMax)")
        }
        let expected = body.loadUnaligned(fromByteOffset: 8, as: UInt32.self).littleEndian
        let found = form.buildsOnPrevious ? Self.checksum(previous) : 0
        guard expected == found else { throw .otherPrevious(expected: expected, found: found) }
        let payload = UnsafeRawBufferPointer(rebasing: body[Self.headSize...])
        guard form != .stored else {
            guard payload.count == length else {
                throw .malformed(
                    part: part, offset: 4, reason: "\(length) bytes are announced, \(payload.count) are there")
            }
            sink.append(contentsOf: payload)
            return
        }
        let target = sink.reserve(length)
        guard form != .changes else {
            guard let previous, previous.count == length, let start = previous.baseAddress else {
                throw .malformed(
                    part: part, offset: 4,
                    reason: "\(length) bytes cannot be changes of the \(previous?.count ?? 0) that are held")
            }
            target.copyMemory(from: start, byteCount: length)
            try ByteChanges.apply(payload, to: UnsafeMutableRawBufferPointer(start: target, count: length))
            sink.commit(length)
            return
        }
        try decompressor.decompress(
            payload, with: .zstd, to: target, length: length, prefix: form == .zstdAgainstPrevious ? previous : nil)
        sink.commit(length)
    }

    private static func checksum(_ state: UnsafeRawBufferPointer?) -> UInt32 {
        guard let start = state?.baseAddress, let count = state?.count else { return 0 }
        return ck_crc32c(0, start, count)
    }
}
