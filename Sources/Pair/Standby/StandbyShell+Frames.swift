import LinuxSystem
import Messages
import Model
import NIOCore
import Protocol
import Standby
import Storage
import Transport
import Wire

/// Frames, on the link's event loop: staged under the lock.
extension StandbyShell {
    public func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        state.withLock { state in
            do throws(SessionError) {
                if header.type == .carried || header.type == .carry {
                    try state.takeCarried(header, body)
                } else if state.readingPaused || !state.pending.isEmpty {
                    state.pending.append((header, body))
                } else {
                    try accept(header, body, &state)
                }
            } catch {
                fail(error, &state)
            }
        }
        wake.signal()
    }

    public func linkClosed(_ link: Link, error: LinkError?) {
        state.withLock { state in
            guard state.link === link else { return }
            loseLink(error.map { "\($0)" } ?? "the primary closed the connection", &state)
        }
        wake.signal()
    }

    func accept(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws(SessionError) {
        switch header.type {
        case .pages, .deviceState, .output, .diskWrite, .diskZero, .diskFlush:
            try acceptData(header, body, &state)
        case .checkpointEnd:
            try acceptCheckpointEnd(header, body, &state)
        case .heartbeat: try state.answer(heartbeat: body)
        case .register, .takeOver, .released, .tuning, .synced, .goodbye, .promiseAsked,
            .diskNote:
            guard let message = try PrimaryMessage(header, body) else { break }
            if case .released(let epoch) = message { state.outputs.removeAll { $0.epoch <= epoch } }
            if case .takeOver(_, guestStands: true, _) = message, !state.duty.machine.level.holdsOutput {
                throw SessionError(.protocolBroken, "a guest was to be handed over whose memory is not here")
            }
            perform(try state.duty.take(message, at: MonotonicClock.now()), &state)
        case .diskRead, .diskDigests, .pageDigests, .verify:
            if let question = try CopyQuestion(header, body) { state.queue.append(.question(question)) }
        case .through, .attach, .detach: try state.noteOrder(header, body)
        case .carry, .carried: try state.takeCarried(header, body)
        case .hello, .offer, .accept, .refuse, .ack, .diskReadReply, .diskDigestsReply, .pageDigestsReply, .wish,
            .check, .checked, .registerRequest, .registerReply, .join, .turn, .verifyReply, .diskTaken, .promise,
            .attached, .diskNoted, .carryNews:
            throw SessionError(
                .protocolBroken, "a \(header.type) frame cannot come from a primary in a running session")
        }
    }

    func acceptData(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws(SessionError) {
        switch try state.writes.place(header, hasMemory: state.hasMemory) {
        case .direct:
            state.queueDirectly(header, body)
            if state.directBytes > Self.directBytesMax { pauseReading(&state) }
        case .checkpoint:
            guard try !state.stage(header, body, replica) else { return }
            state.pending.append((header, body))
            pauseReading(&state)
        }
    }

    func acceptCheckpointEnd(
        _ header: FrameHeader, _ body: ByteBuffer, _ state: inout State
    ) throws(SessionError) {
        let end = try body.parsed(from: "primary") { (bytes) throws(WireError) in try CheckpointEnd(parsing: bytes) }
        let epoch = Epoch(header.epoch)
        if state.hasMemory { try state.stage.finish(epoch, end) } else { try ThroughWrites.finish(epoch, end) }
        perform(state.duty.stage(epoch, end.digest), &state)
    }

    func pauseReading(_ state: inout State) {
        guard !state.readingPaused else { return }
        state.readingPaused = true
        state.link?.pauseReading()
    }

    /// Takes up frames that had to wait, once there is room again.
    func resumeReading(_ state: inout State) {
        guard state.readingPaused, state.directBytes <= Self.directBytesMax / 2 else { return }
        state.readingPaused = false
        var waiting = state.pending[...]
        state.pending = []
        while let next = waiting.first, !state.readingPaused {
            waiting = waiting.dropFirst()
            do throws(SessionError) { try accept(next.header, next.body, &state) } catch { return fail(error, &state) }
        }
        state.pending.append(contentsOf: waiting)
        if !state.readingPaused { state.link?.resumeReading() }
    }
}
