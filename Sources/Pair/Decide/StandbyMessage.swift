import Messages
import Model
import NIOCore
import Shipping
import Wire

/// What a standby tells its primary, beside what it was asked about its copy.
package enum StandbyMessage: Sendable {
    case accept(AcceptMessage)
    case refuse(RefuseMessage)
    /// The epoch is held whole; the digest is that of the frames that came.
    case acknowledge(Epoch, CheckpointDigest)
    /// The guest runs at the standby, under this register.
    case register(Register)
    case goodbye(GoodbyeMessage)
    case wish(WishMessage)
    /// It does not run the guest for a while.
    case promise(question: UInt64, Term)
    /// It wrote down what it was told of the primary's copy of a disk.
    case noted(DiskNoted)

    /// Nil for a frame of another kind.
    init?(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .accept: self = .accept(try AcceptMessage(body))
        case .refuse: self = .refuse(try RefuseMessage(body))
        case .register: self = .register(try RegisterMessage(body).register)
        case .goodbye: self = .goodbye(try GoodbyeMessage(body))
        case .wish: self = .wish(try WishMessage(body))
        case .ack:
            let ack = try body.parsed(from: "standby") { (bytes) throws(WireError) in try Ack(parsing: bytes) }
            self = .acknowledge(Epoch(header.epoch), ack.digest)
        case .promise:
            let promise = try body.parsed(from: "standby") { (bytes) throws(WireError) in try Promise(parsing: bytes) }
            self = .promise(question: promise.question, promise.term)
        case .diskNoted:
            self = .noted(
                try body.parsed(from: "standby") { (bytes) throws(WireError) in try DiskNoted(parsing: bytes) })
        default: return nil
        }
    }

    /// The message as a complete frame.
    var frame: ByteBuffer {
        switch self {
        case .accept(let message): message.frame
        case .refuse(let message): message.frame
        case .acknowledge(let epoch, let digest): controlFrame(Ack(digest: digest), epoch: epoch)
        case .register(let register): RegisterMessage(register).frame
        case .goodbye(let message): message.frame
        case .wish(let message): message.frame
        case .noted(let noted): controlFrame(noted)
        case .promise(let question, let term): controlFrame(Promise(question: question, term: term))
        }
    }
}
