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
        case .released:
            state.outputs.removeAll { $0.epoch.number <= header.epoch }
        case .heartbeat:
            break
        case .diskRead:
            state.enqueue(.read(try parse(body) { (bytes) throws(WireError) in try DiskRead(parsing: bytes) }))
        case .diskDigests:
            state.enqueue(.digests(try parse(body) { (bytes) throws(WireError) in try DiskDigests(parsing: bytes) }))
        case .pageDigests:
            state.enqueue(
                .pageDigests(try parse(body) { (bytes) throws(WireError) in try PageDigests(parsing: bytes) }))
        case .verify:
            let question = try parse(body) { (bytes) throws(WireError) in try VerifyQuestion(parsing: bytes) }
            state.enqueue(.verify(Epoch(header.epoch), question))
        case .takeOver:
            let asked = try parse(body) { (bytes) throws(WireError) in try TakeOver(parsing: bytes) }
            let reason =
                asked.guestStands
                ? "a switchover: the guest stands still at the primary" : "the primary's agent saw the guest's QEMU die"
            report(.event(.detected, reason))
            state.takeOver = TakeOverRequest(
                cause: asked.guestStands ? .switchover : .guestDied, reason: reason, decidedAt: MonotonicClock.now())
            perform(state.machine.handle(.takeOver(session, asked.term, guestStands: asked.guestStands)), &state)
        case .register:
            let message = try RegisterMessage(body)
            perform(state.machine.handle(.registerTold(session, message.register)), &state)
        case .tuning:
            let message = try TuningMessage(body)
            state.status.tuning = message.tuning
            switch (state.status.phase, message.isStalled ?? false) {
            case (.protected, true): state.status.phase = .stalled
            case (.stalled, false): state.status.phase = .protected
            default: break
            }
        case .goodbye:
            let message = try GoodbyeMessage(body)
            state.status.lastError = message.reason
            // Who only failed may come back.
            state.keepsMemory = message.kind == .failed
            perform(state.machine.handle(.dismissed(session)), &state)
        case .synced:
            let synced = try parse(body) { (bytes) throws(WireError) in try Synced(parsing: bytes) }
            guard synced.frameCount == state.firstCopy.frameCount, synced.byteCount == state.firstCopy.byteCount else {
                throw SessionError(
                    .protocolBroken,
                    "the first copy is not whole: \(state.firstCopy.frameCount) of \(synced.frameCount) frames came")
            }
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
            state.firstCopy.frameCount += 1
            state.firstCopy.byteCount += UInt64(FrameHeader.size + body.readableBytes)
            state.enqueue(.direct(header, body))
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
        let end = try parse(body) { (bytes) throws(WireError) in try CheckpointEnd(parsing: bytes) }
        let epoch = Epoch(header.epoch)
        try state.stage.finish(epoch, end)
        state.status.staged = epoch
        state.digests[epoch] = end.digest
        perform(state.machine.handle(.staged(session, epoch)), &state)
    }

    func parse<Value>(
        _ body: ByteBuffer, _ parse: (UnsafeRawBufferPointer) throws(WireError) -> Value
    ) throws(SessionError) -> Value {
        do {
            return try body.withUnsafeReadableBytes { try parse($0) }
        } catch {
            throw SessionError(.protocolBroken, "the primary sent a frame that is not valid: \(error)")
        }
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
