import Model

/// The body of one type of frame.
///
/// `init(parsing:)` takes the whole body and refuses one byte too few or too many. What a body refers to (a payload)
/// stays the caller's: it must outlive the value.
public protocol FrameBody {
    static var type: FrameType { get }
    init(parsing body: UnsafeRawBufferPointer) throws(WireError)
    /// Appends the body's bytes.
    func write(into sink: inout ByteSink)
}

extension ByteSink {
    /// Appends a whole frame: header and body. The body must keep within `Body.type.bodyMax`.
    public mutating func append<Body: FrameBody>(frame body: Body, epoch: Epoch, sequence: UInt32) {
        let start = beginFrame()
        body.write(into: &self)
        endFrame(at: start, type: Body.type, epoch: epoch, sequence: sequence)
    }

    /// Appends a whole frame around a body that was made elsewhere (JSON, a `pages` body).
    public mutating func append(
        frame type: FrameType, body: UnsafeRawBufferPointer, epoch: Epoch, sequence: UInt32
    ) {
        let start = beginFrame()
        append(contentsOf: body)
        endFrame(at: start, type: type, epoch: epoch, sequence: sequence)
    }

    /// Leaves room for a header; the body is appended next, then `endFrame` completes it. Returns where the frame starts.
    public mutating func beginFrame() -> Int {
        let start = count
        append(zeros: FrameHeader.size)
        return start
    }

    /// Writes the header of the frame that starts at `start`, whose body is everything after its header.
    @discardableResult
    public mutating func endFrame(at start: Int, type: FrameType, epoch: Epoch, sequence: UInt32) -> FrameHeader {
        let body = UnsafeRawBufferPointer(rebasing: bytes[(start + FrameHeader.size)...])
        let header = FrameHeader(type: type, epoch: epoch, sequence: sequence, head: body)
        header.write(into: UnsafeMutableRawBufferPointer(rebasing: mutableBytes[start...]))
        return header
    }
}

/// Reads fields from the front of a body; refuses to go beyond its end.
struct FieldReader {
    private let type: FrameType
    private let bytes: UnsafeRawBufferPointer
    private(set) var offset = 0

    init(_ type: FrameType, _ bytes: UnsafeRawBufferPointer) {
        self.type = type
        self.bytes = bytes
    }

    var remaining: Int { bytes.count - offset }

    mutating func number<Number: FixedWidthInteger & BitwiseCopyable>(_: Number.Type) throws(WireError) -> Number {
        let size = MemoryLayout<Number>.size
        guard remaining >= size else { throw truncated(size) }
        defer { offset += size }
        return bytes.loadUnaligned(fromByteOffset: offset, as: Number.self).littleEndian
    }

    /// The next `count` bytes, where they lie.
    mutating func take(_ count: Int) throws(WireError) -> UnsafeRawBufferPointer {
        guard count >= 0, remaining >= count else { throw truncated(count) }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    /// Everything that is left.
    mutating func rest() -> UnsafeRawBufferPointer {
        defer { offset = bytes.count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset...])
    }

    /// Fields that are reserved must be zero, so that they can mean something later.
    mutating func reserved(_ count: Int) throws(WireError) {
        let start = offset
        guard try take(count).allSatisfy({ $0 == 0 }) else {
            throw malformed(at: start, "reserved bytes are not zero")
        }
    }

    func end() throws(WireError) {
        guard remaining == 0 else { throw malformed(at: offset, "\(remaining) bytes follow its last field") }
    }

    func malformed(at offset: Int, _ reason: String) -> WireError {
        .malformed(part: "\(type) body", offset: offset, reason: reason)
    }

    private func truncated(_ count: Int) -> WireError {
        .truncated(part: "\(type) body", offset: bytes.count, needed: offset + count)
    }
}
