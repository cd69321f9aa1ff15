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
            state.withLock { fail(error, &$0) }
        }
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        let reason = error.map { "\($0)" } ?? "the standby closed the connection"
        state.withLock { state in
            guard state.connection.link === link || state.connection.link == nil else { return }
            if state.connection.answer == nil {
                state.connection.answer = .failure(SessionError(.peerLost, reason))
            }
            loseStandby(reason, &state)
        }
        wake.signal()
    }

    func accept(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        let (disks, pageDigests) = state.withLock { ($0.connection.disks, $0.connection.pageDigests) }
        switch header.type {
        case .ack:
            let ack = try parseReply(body) { (bytes) throws(WireError) in try Ack(parsing: bytes) }
            acknowledged(Epoch(header.epoch), digest: ack.digest)
        case .heartbeat, .hello:
            break
        case .accept:
            let message = try AcceptMessage(body)
            state.withLock { state in
                state.connection.answer = .success(message)
                state.connection.baseBytes = message.baseBytes
                state.connection.canVerify = message.verifies ?? false
                state.hadStandby = true
            }
            wake.signal()
        case .refuse:
            let message = try RefuseMessage(body)
            state.withLock { state in
                if let known = message.knows { perform(state.machine.handle(.peerRegister(known)), &state) }
                state.connection.answer = .failure(SessionError(.standbyRefused, message.reason))
            }
            wake.signal()
        case .register:
            let message = try RegisterMessage(body)
            handle(.peerRegister(message.register))
        case .goodbye:
            let message = try GoodbyeMessage(body)
            state.withLock { state in
                let id = state.connection.session
                if message.kind == .handedBack, message.staysStandby == true {
                    state.connection.askedAt = nil
                    perform(state.machine.handle(.declined(id, message.reason)), &state)
                } else if message.kind == .handedBack {
                    perform(state.machine.handle(.handedBack(id)), &state)
                    state.status.lastError = message.reason
                } else {
                    if message.kind == .failed, !state.machine.isDismissing {
                        return loseStandby("\(options.standby): \(message.reason)", &state)
                    }
                    // The end of the link that follows is no loss.
                    if state.machine.isDismissing { state.connection.linkDown = "the standby has let go" }
                    perform(state.machine.handle(.letGo(id)), &state)
                }
            }
            wake.signal()
        case .wish:
            let message = try WishMessage(body)
            report(.event(.request, message.reason))
            switch message.wish {
            case .switchover:
                if let refusal = switchOver() { report(.event(.request, "it was refused: \(refusal)")) }
            case .leave:
                state.withLock { state in
                    state.connection.leaving = message.reason
                    perform(state.machine.handle(.standbyLeaves(state.connection.session)), &state)
                }
                wake.signal()
            }
        case .diskDigestsReply:
            let isWanted = try parseReply(body) { (bytes) throws(WireError) in
                disks.take(try DiskDigestsReply(parsing: bytes))
            }
            try check(isWanted, header)
            wake.signal()
        case .pageDigestsReply:
            let isWanted = try parseReply(body) { (bytes) throws(WireError) in
                let reply = try PageDigestsReply(parsing: bytes)
                let question = PageDigests(block: reply.block, first: reply.first, count: UInt32(reply.count))
                return pageDigests.deliver(Array(reply.digests), to: question)
            }
            try check(isWanted, header)
            wake.signal()
        case .diskReadReply:
            let isWanted = try parseReply(body) { (bytes) throws(WireError) in
                disks.take(try DiskReadReply(parsing: bytes))
            }
            try check(isWanted, header)
        case .verifyReply:
            let epoch = Epoch(header.epoch)
            try parseReply(body) { (bytes) throws(WireError) in
                let reply = try VerifyReply(parsing: bytes)
                verification.replied(reply.session, epoch, Array(reply.digests))
            }
        case .offer, .pages, .deviceState, .output, .diskWrite, .diskZero, .checkpointEnd, .released, .takeOver,
            .diskRead, .diskDigests, .pageDigests, .synced, .tuning, .check, .checked, .registerRequest, .registerReply,
            .join, .turn, .verify:
            throw SessionError(.protocolBroken, "a \(header.type) frame cannot come from a standby")
        }
    }

    private func check(_ isWanted: Bool, _ header: FrameHeader) throws(SessionError) {
        guard isWanted else {
            throw SessionError(.protocolBroken, "the standby sent a \(header.type) frame that answers no question")
        }
    }

    func parseReply<Value>(
        _ body: ByteBuffer, _ parse: (UnsafeRawBufferPointer) throws(WireError) -> Value
    ) throws(SessionError) -> Value {
        do {
            return try body.withUnsafeReadableBytes { try parse($0) }
        } catch {
            throw SessionError(.protocolBroken, "the standby sent a frame that is not valid: \(error)")
        }
    }

    func acknowledged(_ epoch: Epoch, digest: CheckpointDigest) {
        let now = MonotonicClock.now()
        state.withLock { state in
            let found = state.connection.ledger.acknowledged(epoch, digest: digest, at: now)
            if found != nil { report(.acknowledged(epoch)) }
            let event = PrimaryMachine.Event.acknowledged(
                state.connection.session, epoch, digestMatches: found != nil)
            let hadSession = state.machine.session != nil
            let held = perform(state.machine.handle(event), &state)
            if hadSession, state.machine.session == nil {
                noteLoss("it acknowledged epoch \(epoch) otherwise than it was sent", &state)
            }
            state.connection.wakefulness?.end(epoch)
            if var timings = found {
                timings.release = MonotonicClock.now() - now
                timings.held = held
                state.status.last = timings
                report(.epoch(timings))
            }
        }
        wake.signal()
    }

    /// Notes what the standby will have to acknowledge; called before the checkpoint's last frame leaves.
    func expectAcknowledgement(of epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings, waited: UInt64) {
        let now = MonotonicClock.now()
        state.withLock { state in
            state.connection.ledger.sent(epoch, digest: digest, timings: timings, waited: waited, at: now)
            if let way = state.connection.ledger.roundTrip, way > Wakefulness.reach {
                state.connection.wakefulness?.end(epoch)
            }
        }
    }
}
