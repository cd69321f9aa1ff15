import LinuxSystem
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
            report(.event("request", message.reason))
            switch message.wish {
            case .switchover:
                if let refusal = switchOver() { report(.event("request", "it was refused: \(refusal)")) }
            case .leave:
                state.withLock { state in
                    state.connection.leaving = message.reason
                    perform(state.machine.handle(.standbyLeaves(state.connection.session)), &state)
                }
                wake.signal()
            }
        case .diskDigestsReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskDigestsAnswer(try DiskDigestsReply(parsing: bytes))
            }
            state.withLock { $0.connection.digestReplies.append(answer) }
            wake.signal()
        case .pageDigestsReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                PageDigestsAnswer(try PageDigestsReply(parsing: bytes))
            }
            state.withLock { $0.connection.pageDigests.append(answer) }
            wake.signal()
        case .diskReadReply:
            let answer = try parseReply(body) { (bytes) throws(WireError) in
                DiskReadAnswer(try DiskReadReply(parsing: bytes))
            }
            state.withLock { $0.connection.readReplies[answer.id] = answer }
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
            var record: EpochTimings?
            if let first = state.connection.expected.first, first.epoch == epoch, first.digest == digest {
                var timings = first.timings
                timings.transfer = now - first.sentAt
                timings.acknowledge = now - timings.resumedAt
                state.connection.note(
                    transfer: timings.transfer, waited: first.waited, bytes: timings.linkBytes)
                state.connection.expected.removeFirst()
                state.connection.transits.append(timings.acknowledge)
                record = timings
                report(.acknowledged(epoch))
            }
            state.connection.releasedAfter = 0
            let event = PrimaryMachine.Event.acknowledged(
                state.connection.session, epoch, digestMatches: record != nil)
            perform(state.machine.handle(event), &state)
            state.connection.wakefulness?.end(epoch)
            if var timings = record {
                timings.release = MonotonicClock.now() - now
                timings.held = state.connection.releasedAfter
                state.status.last = timings
                report(.epoch(timings))
            }
        }
        wake.signal()
    }

    /// Notes what the standby will have to acknowledge; called before the checkpoint's last frame leaves.
    func expectAcknowledgement(of epoch: Epoch, digest: CheckpointDigest, timings: EpochTimings, waited: UInt64) {
        let expected = PrimaryShell.Expected(
            epoch: epoch, digest: digest, timings: timings, waited: waited, sentAt: MonotonicClock.now())
        state.withLock { state in
            state.connection.expected.append(expected)
            if let way = state.connection.depth.roundTrip, way > Wakefulness.reach {
                state.connection.wakefulness?.end(epoch)
            }
        }
    }
}

/// A reply to a question about the standby's disk, with bytes of its own.
struct DiskDigestsAnswer: Sendable {
    var disk: UInt16
    var first: UInt64
    var digests: [UInt8]

    init(_ reply: DiskDigestsReply) {
        disk = reply.disk
        first = reply.first
        digests = Array(reply.digests)
    }
}

struct DiskReadAnswer: Sendable {
    var id: UInt64
    var status: UInt32
    var data: [UInt8]

    init(_ reply: DiskReadReply) {
        id = reply.id
        status = reply.status
        data = Array(reply.data)
    }
}
