import LinuxSystem
import Messages
import Model
import NIOCore
import Protocol
import Transport
import Wire

/// The link, on its event loop: acknowledgements, and answers that the session's thread waits for.
extension PrimaryShell {
    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        do throws(SessionError) {
            try accept(header, body)
        } catch {
            tell { $0.fail(error) }
        }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        let reason = error.map { "\($0)" } ?? "the standby closed the connection"
        state.withLock { state in
            guard state.parts.link === link || state.parts.link == nil else { return }
            perform(state.duty.noteClosedLink(reason), &state)
        }
        wake.signal()
    }

    func accept(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        switch header.type {
        case .heartbeat, .hello:
            break
        case .ack, .accept, .refuse, .register, .goodbye, .wish, .promise, .diskNoted:
            if let message = try StandbyMessage(header, body) { take(message) }
        case .attached:
            let message = try AttachedMessage(body)
            state.withLock { state in
                if message.part == .detour {
                    state.parts.carry?.answered(message)
                } else {
                    state.parts.attached = message
                }
            }
            wake.signal()
        case .diskDigestsReply, .pageDigestsReply, .diskReadReply, .verifyReply, .diskTaken:
            try takeAnswer(header, body)
        case .carryNews, .carried: try state.withLock { $0.parts.carry }?.take(header, body)
        case .offer, .pages, .deviceState, .output, .diskWrite, .diskZero, .checkpointEnd, .released, .takeOver,
            .diskRead, .diskDigests, .pageDigests, .synced, .tuning, .check, .checked, .registerRequest, .registerReply,
            .join, .turn, .verify, .promiseAsked, .attach, .detach, .through, .carry, .diskNote,
            .diskFlush:
            throw SessionError(.protocolBroken, "a \(header.type) frame cannot come from a standby")
        }
    }

    private func take(_ message: StandbyMessage) {
        let now = MonotonicClock.now()
        state.withLock { state in
            perform(state.duty.take(message, at: now), &state)
            if case .acknowledge(let epoch, _) = message { state.parts.wakefulness?.end(epoch) }
        }
        wake.signal()
        if case .acknowledge = message { return }
        report(.moved)
    }

    /// An answer that the session's thread, or a disk's server, waits for.
    private func takeAnswer(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        let (disks, writes, pageDigests) = state.withLock { ($0.parts.disks, $0.parts.writes, $0.parts.pageDigests) }
        switch header.type {
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
            wake.signal()
        case .pageDigestsReply:
            let isWanted = try body.parsed(from: "standby") { (bytes) throws(WireError) in
                let reply = try PageDigestsReply(parsing: bytes)
                let question = PageDigests(block: reply.block, first: reply.first, count: UInt32(reply.count))
                return pageDigests.deliver(Array(reply.digests), to: question)
            }
            try check(isWanted, header)
            wake.signal()
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
    }

    private func check(_ isWanted: Bool, _ header: FrameHeader) throws(SessionError) {
        guard isWanted else {
            throw SessionError(.protocolBroken, "the standby sent a \(header.type) frame that answers no question")
        }
    }

    /// Notes what the standby will have to acknowledge; called before the checkpoint's last frame leaves.
    func expectAcknowledgement(of epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings, waited: UInt64) {
        let now = MonotonicClock.now()
        state.withLock { state in
            state.duty.expect(epoch, digest, timings, waited: waited, at: now)
            if let way = state.duty.connection.ledger.roundTrip, way > Wakefulness.reach {
                state.parts.wakefulness?.end(epoch)
            }
        }
    }
}
