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
        case .hello: break
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
        case .diskDigestsReply, .pageDigestsReply, .diskReadReply, .verifyReply, .diskTaken, .heartbeat:
            let answers = state.withLock { StandbyAnswers($0.parts, verification) }
            if try answers.take(header, body) { wake.signal() }
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
