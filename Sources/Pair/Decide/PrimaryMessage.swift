import Messages
import Model
import NIOCore
import Protocol
import Shipping
import Wire

/// What a primary tells its standby in a session, beside the frames of checkpoints and what it asks about the copy.
package enum PrimaryMessage: Sendable {
    case register(Register)
    /// The standby is to go on from its last committed checkpoint, under this term at least; `starts` is how often the guest was
    /// started at the primary, which cannot start it again, and 0 otherwise.
    case takeOver(Term, guestStands: Bool, starts: Int)
    /// The output of the epochs up to this one has left.
    case released(Epoch)
    case tuning(EpochTuning, isStalled: Bool)
    /// What the first copy consisted of, when it is whole.
    case synced(Synced)
    case goodbye(GoodbyeMessage)
    /// The standby is asked not to run the guest for a while.
    case askPromise(question: UInt64, Term)
    /// The primary's copy of a disk is lost, or whole again.
    case note(DiskNote)

    /// Nil for a frame of another kind.
    init?(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .register: self = .register(try RegisterMessage(body).register)
        case .released: self = .released(Epoch(header.epoch))
        case .goodbye: self = .goodbye(try GoodbyeMessage(body))
        case .tuning:
            let message = try TuningMessage(body)
            self = .tuning(message.tuning, isStalled: message.isStalled ?? false)
        case .takeOver:
            let asked = try body.parsed(from: "primary") { (bytes) throws(WireError) in try TakeOver(parsing: bytes) }
            self = .takeOver(asked.term, guestStands: asked.guestStands, starts: Int(asked.starts))
        case .synced:
            self = .synced(try body.parsed(from: "primary") { (bytes) throws(WireError) in try Synced(parsing: bytes) })
        case .promiseAsked:
            let asked = try body.parsed(from: "primary") { (bytes) throws(WireError) in
                try PromiseAsked(parsing: bytes)
            }
            self = .askPromise(question: asked.question, asked.term)
        case .diskNote:
            self = .note(
                try body.parsed(from: "primary") { (bytes) throws(WireError) in try DiskNote(parsing: bytes) })
        default: return nil
        }
    }

    /// The message as a complete frame.
    var frame: ByteBuffer {
        switch self {
        case .register(let register): RegisterMessage(register).frame
        case .takeOver(let term, let stands, let starts):
            controlFrame(TakeOver(term: term, guestStands: stands, starts: UInt8(clamping: starts)))
        case .released(let epoch): controlFrame(Released(), epoch: epoch)
        case .tuning(let tuning, let isStalled): TuningMessage(tuning, isStalled: isStalled).frame
        case .synced(let synced): controlFrame(synced)
        case .goodbye(let message): message.frame
        case .note(let note): controlFrame(note)
        case .askPromise(let question, let term): controlFrame(PromiseAsked(question: question, term: term))
        }
    }
}
