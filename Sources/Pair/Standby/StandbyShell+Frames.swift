import GuestNetwork
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
                if state.readingPaused || !state.pending.isEmpty {
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
        case .pages, .deviceState, .output, .diskWrite, .diskZero:
            try acceptData(header, body, &state)
        case .checkpointEnd:
            try acceptCheckpointEnd(header, body, &state)
        case .heartbeat:
            break
        case .register, .takeOver, .released, .tuning, .synced, .goodbye:
            guard let message = try PrimaryMessage(header, body) else { break }
            if case .released(let epoch) = message { state.outputs.removeAll { $0.epoch <= epoch } }
            perform(try state.duty.take(message, at: MonotonicClock.now()), &state)
        case .diskRead, .diskDigests, .pageDigests, .verify:
            if let question = try CopyQuestion(header, body) { state.queue.append(.question(question)) }
        case .hello, .offer, .accept, .refuse, .ack, .diskReadReply, .diskDigestsReply, .pageDigestsReply, .wish,
            .check, .checked, .registerRequest, .registerReply, .join, .turn, .verifyReply:
            throw SessionError(
                .protocolBroken, "a \(header.type) frame cannot come from a primary in a running session")
        }
    }

    func acceptData(_ header: FrameHeader, _ body: ByteBuffer, _ state: inout State) throws(SessionError) {
        let epoch = Epoch(header.epoch)
        if epoch == .firstCopy {
            state.directBytes += body.readableBytes
            state.duty.noteFirstCopy(FrameHeader.size + body.readableBytes)
            state.queue.append(.direct(header, body))
            if state.directBytes > Self.directBytesMax { pauseReading(&state) }
            return
        }
        switch try state.stage.add(header, body) {
        case .full:
            state.pending.append((header, body))
            pauseReading(&state)
        case .stored(let stored):
            do {
                try take(header, stored, &state)
            } catch let error as SessionError {
                throw error
            } catch {
                throw SessionError(.protocolBroken, "a \(header.type) frame of epoch \(epoch) is not valid: \(error)")
            }
        }
    }

    func acceptCheckpointEnd(
        _ header: FrameHeader, _ body: ByteBuffer, _ state: inout State
    ) throws(SessionError) {
        let end = try body.parsed(from: "primary") { (bytes) throws(WireError) in try CheckpointEnd(parsing: bytes) }
        let epoch = Epoch(header.epoch)
        try state.stage.finish(epoch, end)
        perform(state.duty.stage(epoch, end.digest), &state)
    }

    /// Puts the disk writes and the held output of a recovered epoch back to where they were.
    func restage(_ epoch: Epoch, _ state: inout State) {
        guard let frames = state.stage.frames(of: epoch) else { return }
        var walk = StagedFrames(frames)
        do {
            while let (header, body) = try walk.next() { try take(header, body, &state) }
        } catch {
            fail(SessionError(.storage, "checkpoint \(epoch) cannot be taken up: \(error)"), &state)
        }
    }

    /// Takes note of what is in a staged frame that must be known before it is applied.
    func take(_ header: FrameHeader, _ stored: UnsafeRawBufferPointer, _ state: inout State) throws {
        let epoch = Epoch(header.epoch)
        switch header.type {
        case .diskWrite:
            let write = try DiskWrite(parsing: stored)
            try replica.disk(write.disk).stage(epoch: epoch, offset: write.offset, data: write.data)
        case .diskZero:
            let zero = try DiskZero(parsing: stored)
            try replica.disk(zero.disk).stageZero(
                epoch: epoch, offset: zero.offset, length: zero.length, mayUnmap: zero.mayUnmap)
        case .output:
            state.outputs.append(HeldOutput(try OutputFrame(parsing: stored), epoch: epoch))
        default: break
        }
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
