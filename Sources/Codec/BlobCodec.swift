import CKernels
import Model

/// Compresses a device state, alone or against an earlier one that the standby holds too. One per thread.
///
/// What it makes is 12 bytes of head and the contents:
///
///      0  form      u8    1 stored, 2 zstd, 3 zstd against the previous state
///      1  reserved  3
///      4  length    u32   of the state, in bytes
///      8  previous  u32   CRC-32C of the previous state for form 3, else 0
public struct BlobCodec: ~Copyable {
    /// The longest state in bytes.
    public static let lengthMax = 32 << 20
    static let headSize = 12

    private enum Form: UInt8 {
        case stored = 1
        case zstd = 2
        case zstdAgainstPrevious = 3
    }

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
        let written = compressor.compress(state, with: .zstd, to: target, room: state.count - 1, prefix: prefix)
        let form: Form = written == nil ? .stored : prefix == nil ? .zstd : .zstdAgainstPrevious
        sink.append(form.rawValue)
        sink.append(zeros: 3)
        sink.append(UInt32(state.count))
        sink.append(form == .zstdAgainstPrevious ? Self.checksum(prefix) : 0)
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
        let found = form == .zstdAgainstPrevious ? Self.checksum(previous) : 0
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
        try decompressor.decompress(
            payload, with: .zstd, to: target, length: length, prefix: form == .zstdAgainstPrevious ? previous : nil)
        sink.commit(length)
    }

    private static func checksum(_ state: UnsafeRawBufferPointer?) -> UInt32 {
        guard let start = state?.baseAddress, let count = state?.count else { return 0 }
        return ck_crc32c(0, start, count)
    }
}
