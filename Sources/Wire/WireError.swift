/// Why bytes from the peer are not a frame. Offsets count from the start of the part that the error names.
public enum WireError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes end before the part does.
    case truncated(part: String, offset: Int, needed: Int)
    /// The first four bytes are not ours: the peer speaks something else, or the stream lost its step.
    case notAFrame(found: UInt32)
    /// The peer speaks another version of the protocol.
    case versionMismatch(ours: UInt8, theirs: UInt8)
    case unknownType(UInt8)
    /// The header announces a body beyond the cap of its type.
    case tooLong(type: FrameType, length: Int, max: Int)
    case checksum(part: String, offset: Int, expected: UInt32, found: UInt32)
    /// A field holds what it may not.
    case malformed(part: String, offset: Int, reason: String)

    /// Where in the part the fault was seen, in bytes.
    public var offset: Int {
        switch self {
        case .truncated(_, let offset, _), .checksum(_, let offset, _, _), .malformed(_, let offset, _): offset
        case .notAFrame: 0
        case .versionMismatch: 4
        case .unknownType: 5
        case .tooLong: 8
        }
    }

    /// The fault itself, without the place.
    public var reason: String {
        switch self {
        case .truncated(_, let offset, let needed): "\(needed) bytes are needed, \(offset) are there"
        case .notAFrame(let found): "it starts with 0x\(hex(found)), not with “RMLS”"
        case .versionMismatch(let ours, let theirs):
            "the peer speaks version \(theirs) of the protocol, this side \(ours)"
        case .unknownType(let type): "frame type \(type) does not exist in version \(FrameHeader.version)"
        case .tooLong(let type, let length, let max):
            "a \(type) body of \(length) bytes is announced, at most \(max) are allowed"
        case .checksum(_, _, let expected, let found):
            "the checksum is 0x\(hex(found)), announced was 0x\(hex(expected))"
        case .malformed(_, _, let reason): reason
        }
    }

    public var description: String {
        switch self {
        case .truncated(let part, _, _):
            "the \(part) is cut short: \(reason); the session starts anew"
        case .notAFrame:
            "what arrived is not a frame: \(reason); check that the peer's address is that of a Romulus agent"
        case .versionMismatch: "\(reason): install the same version of romulusd on both hosts"
        case .unknownType, .tooLong:
            "the frame header is refused at byte \(offset): \(reason); the session starts anew"
        case .checksum(let part, let offset, _, _), .malformed(let part, let offset, _):
            "the \(part) is refused at byte \(offset): \(reason); the session starts anew"
        }
    }
}

/// `number` as fixed-width hexadecimal digits.
func hex<Number: FixedWidthInteger & UnsignedInteger>(_ number: Number) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: Number.bitWidth / 4 - digits.count) + digits
}
