import Disk
import Memory
import Model
import NIOCore
import Shipping
import Wire

/// What the session's thread, a disk's server or the shipper asked the standby, and waits for.
struct StandbyAnswers {
    private let sender: FrameSender?
    private let disks: DiskAnswers
    private let writes: WriteAnswers
    private let pageDigests: Answers<PageDigests, [UInt8]>
    private let verification: MemoryVerification

    init(_ parts: PrimaryShell.SessionParts, _ verification: MemoryVerification) {
        (sender, disks, writes, pageDigests) = (parts.sender, parts.disks, parts.writes, parts.pageDigests)
        self.verification = verification
    }

    /// Returns whether the session's thread is to look. Throws `.protocolBroken` for what was not asked.
    func take(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) -> Bool {
        switch header.type {
        case .heartbeat:
            let beat = try body.parsed(from: "standby") { (bytes) throws(WireError) in try Heartbeat(parsing: bytes) }
            if beat.echo != 0 { sender?.answered(beat.echo) }
        case .diskTaken:
            let isWanted = try body.parsed(from: "standby") { (bytes) throws(WireError) in
                writes.take(try DiskTaken(parsing: bytes).count)
            }
            try check(isWanted, header)
        case .diskDigestsReply:
            let isWanted = try body.parsed(from: "standby") { (bytes) throws(WireError) in
                disks.take(try DiskDigestsReply(parsing: bytes))
            }
            try check(isWanted, header)
            return true
        case .pageDigestsReply:
            let isWanted = try body.parsed(from: "standby") { (bytes) throws(WireError) in
                let reply = try PageDigestsReply(parsing: bytes)
                let question = PageDigests(block: reply.block, first: reply.first, count: UInt32(reply.count))
                return pageDigests.deliver(Array(reply.digests), to: question)
            }
            try check(isWanted, header)
            return true
        case .diskReadReply:
            let isWanted = try body.parsed(from: "standby") { (bytes) throws(WireError) in
                disks.take(try DiskReadReply(parsing: bytes))
            }
            try check(isWanted, header)
        case .verifyReply:
            let epoch = Epoch(header.epoch)
            try body.parsed(from: "standby") { (bytes) throws(WireError) in
                let reply = try VerifyReply(parsing: bytes)
                verification.replied(reply.session, epoch, Array(reply.digests))
            }
        default: break
        }
        return false
    }

    private func check(_ isWanted: Bool, _ header: FrameHeader) throws(SessionError) {
        guard isWanted else {
            throw SessionError(.protocolBroken, "the standby sent a \(header.type) frame that answers no question")
        }
    }
}
