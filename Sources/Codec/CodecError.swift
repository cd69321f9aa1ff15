/// Why the body of a `pages` or `deviceState` frame is not one. Offsets count from the start of the part named.
public enum CodecError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes end before the part does.
    case truncated(part: String, offset: Int, needed: Int)
    /// A field holds what it may not.
    case malformed(part: String, offset: Int, reason: String)
    /// No block with this index was agreed on.
    case unknownBlock(UInt16)
    /// The second stage does not give what was announced.
    case decompression(codec: Compression, reason: String)
    /// A device state was encoded against another state than the one held here.
    case otherPrevious(expected: UInt32, found: UInt32)

    public var description: String {
        switch self {
        case .truncated(let part, let offset, let needed):
            "the \(part) is cut short: \(needed) bytes are needed, \(offset) are there; nothing of it was applied"
        case .malformed(let part, let offset, let reason):
            "the \(part) is refused at byte \(offset): \(reason); nothing of it was applied"
        case .unknownBlock(let index):
            "the pages body names RAM block \(index), which was not agreed on; nothing of it was applied"
        case .decompression(let codec, let reason):
            "\(codec) data cannot be decompressed: \(reason); nothing of it was applied"
        case .otherPrevious(let expected, let found):
            "the device state builds on a state with checksum \(expected), but the one held has \(found); "
                + "the session starts anew"
        }
    }
}
