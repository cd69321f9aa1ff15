import Model
import NIOCore
import Wire

/// What the primary asks about the copy.
enum CopyQuestion: Sendable {
    case read(DiskRead)
    case digests(DiskDigests)
    case pageDigests(PageDigests)
    case verify(Epoch, VerifyQuestion)

    /// Nil for a frame of another kind.
    init?(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .diskRead:
            self = .read(
                try body.parsed(from: "primary") { (bytes) throws(WireError) in try DiskRead(parsing: bytes) })
        case .diskDigests:
            self = .digests(
                try body.parsed(from: "primary") { (bytes) throws(WireError) in try DiskDigests(parsing: bytes) })
        case .pageDigests:
            self = .pageDigests(
                try body.parsed(from: "primary") { (bytes) throws(WireError) in try PageDigests(parsing: bytes) })
        case .verify:
            self = .verify(
                Epoch(header.epoch),
                try body.parsed(from: "primary") { (bytes) throws(WireError) in try VerifyQuestion(parsing: bytes) })
        default: return nil
        }
    }
}
