import Messages
import Model
import Protocol
import Wire

/// One session with a standby, from the dialling of its link on.
package struct PrimaryConnection: Sendable {
    package let session: SessionID
    /// Why there is no link any more.
    package internal(set) var linkDown: String?
    /// The standby was lost, and not sent away.
    var isLost = false
    /// Why the standby wants to be none any more.
    package internal(set) var leaving: String?
    /// When the standby was asked to go on with a guest that stands still here.
    var askedAt: UInt64?
    /// What it said to the offer.
    package internal(set) var answer: Result<AcceptMessage, SessionError>?
    var ledger = EpochLedger<CheckpointDigest>()
    /// QEMU does nothing for a checkpoint that is due.
    var isStalled = false

    init(_ session: SessionID) { self.session = session }

    private var accepted: AcceptMessage? { if case .success(let message)? = answer { message } else { nil } }
    /// What the standby has of the guest's memory from before, in bytes.
    var baseBytes: UInt64 { accepted?.baseBytes ?? 0 }
    /// The standby's agent can tell what its replica's memory is like at a checkpoint.
    var canVerify: Bool { accepted?.verifies ?? false }
    /// It can carry the guest's frames.
    var canCarry: Bool { accepted?.carries ?? false }
}
