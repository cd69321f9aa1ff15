import Foundation
import GuestNetwork
import LinuxSystem
import Model
import NIOCore
import Protocol
import Shipping
import Standby
import Storage
import Transport
import Wire

/// The apply thread: everything that may take long.
extension StandbyShell {
    func run() {
        var applier = Applier(memory: replica.memory, disks: replica.disks)
        var hasQEMU = true
        defer { heartbeat.withLock { $0?.stop() } }
        defer { questions?.stop() }
        if replica.recovering { applier.restore(deviceState: replica.savedDeviceState(before: firstRecovered)) }
        while true {
            let (item, finished) = state.withLock { ($0.dequeue(), $0.finished) }
            if finished { return }
            guard let item else {
                waitReadable(
                    [wake.number, hasQEMU ? replica.qemuExitDescriptor : -1], nanoseconds: 1_000_000_000)
                _ = wake.take()
                if hasQEMU, let ending = replica.qemuEnding {
                    hasQEMU = false
                    loseQEMU(ending)
                }
                continue
            }
            do throws(SessionError) {
                try handle(item, &applier)
            } catch {
                state.withLock { fail(error, &$0) }
            }
        }
    }

    /// Without its QEMU the replica is of no use: the primary must know that it has no standby any more.
    func loseQEMU(_ ending: String) {
        state.withLock { state in
            let error = SessionError(.qemu, "the QEMU that waited for \(vm) here \(ending): protect it again")
            tellWhy(error.message, &state)
            let actions = state.machine.handle(.imageLost(error.message))
            guard !actions.isEmpty else { return }
            state.status.lastError = error.message
            report(.failure(error))
            perform(actions, &state)
        }
    }

    func handle(_ item: Work, _ applier: inout Applier) throws(SessionError) {
        switch item {
        case .direct(let header, let body):
            try body.withUnsafeReadableBytes { (bytes) throws(SessionError) in
                try applier.applyDirectly(header, bytes)
            }
            state.withLock { state in
                state.directBytes -= body.readableBytes
                state.status.firstCopyBytes += UInt64(body.readableBytes)
                resumeReading(&state)
            }
        case .checkpoint(let epoch):
            guard let frames = state.withLock({ $0.stage.frames(of: epoch) }) else { return }
            try applier.apply(epoch, frames)
            try replica.noteApplied(epoch, deviceState: applier.deviceState)
            state.withLock { state in
                state.stage.free(epoch)
                state.status.applied = epoch
                perform(state.machine.handle(.applied(session, epoch)), &state)
                if epoch == Epoch(1), case .holding = state.machine.state {
                    state.status.phase = .protected
                    state.status.lastError = nil
                    report(.event(.state, "checkpoint 1 is complete: this host can take over"))
                }
                resumeReading(&state)
            }
        case .read(let request): answer(request)
        case .digests(let request): answer(request)
        case .pageDigests(let request): try answer(request)
        case .verify(let epoch, let question): try answer(question, at: epoch)
        case .load(let epoch): load(from: epoch, applier.deviceState)
        case .resume(let epoch): resume(from: epoch)
        case .endReplica:
            replica.endQEMU()
            handle(.replicaEnded)
        case .dismantle(let reason):
            replica.dismantle(keepingMemory: state.withLock { $0.keepsMemory })
            state.withLock { state in
                state.status.phase = .ended
                state.finished = true
                state.link?.close()
            }
            report(.ended(reason))
        }
    }

    func answer(_ request: DiskRead) {
        var data = [UInt8](repeating: 0, count: Int(request.length))
        var status: UInt32 = 0
        do {
            let disk = try replica.disk(request.disk)
            try data.withUnsafeMutableBufferPointer { (bytes) throws(StorageError) in
                try disk.read(offset: request.offset, into: UnsafeMutableRawBufferPointer(bytes))
            }
        } catch {
            log.warning("a disk read of the primary failed: \(error)", metadata: ["vm": "\(vm)"])
            status = UInt32(EIO)
            data = []
        }
        let frame = data.withUnsafeBytes { controlFrame(DiskReadReply(id: request.id, status: status, data: $0)) }
        state.withLock { $0.link }?.send(frame)
    }

    func answer(_ request: DiskDigests) {
        do {
            guard request.chunkSize == UInt32(ChunkDigest.chunkSize) else {
                throw SessionError(.protocolBroken, "digests of \(request.chunkSize)-byte chunks were asked for")
            }
            let digests = try replica.disk(request.disk).digests(
                firstChunk: request.first, count: Int(request.count))
            let frame = digests.withUnsafeBytes {
                controlFrame(
                    DiskDigestsReply(
                        disk: request.disk, chunkSize: request.chunkSize, first: request.first, digests: $0))
            }
            state.withLock { $0.link }?.send(frame)
        } catch {
            // The primary goes on without: it then sends everything.
            log.warning("digests of the disk image cannot be made: \(error)", metadata: ["vm": "\(vm)"])
        }
    }

    func answer(_ request: PageDigests) throws(SessionError) {
        let digests = try replica.memory.digests(request)
        let frame = digests.withUnsafeBytes {
            controlFrame(PageDigestsReply(block: request.block, first: request.first, digests: $0))
        }
        state.withLock { $0.link }?.send(frame)
    }

    /// While the arbiter is asked and the term made durable; in a switchover before that.
    func load(from epoch: Epoch, _ deviceState: [UInt8]) {
        do throws(SessionError) {
            try replica.load(from: epoch, deviceState: deviceState)
        } catch {
            report(.failure(error))
            return handle(.loadFailed(error.message))
        }
        state.withLock { $0.takeOver?.loadedAt = MonotonicClock.now() }
        handle(.loaded)
    }

    func resume(from epoch: Epoch) {
        let (request, outputs) = state.withLock { ($0.takeOver, $0.outputs.filter { $0.epoch <= epoch }) }
        let decidedAt = request?.decidedAt ?? MonotonicClock.now()
        let outcome: Result<TakeOverReport, SessionError>
        do throws(SessionError) {
            var result = try replica.run(from: epoch, outputs: outputs, decidedAt: decidedAt)
            result.decisionToLoaded = max(request?.loadedAt ?? 0, decidedAt) - decidedAt
            result.decisionToRecorded = max(request?.recordedAt ?? 0, decidedAt) - decidedAt
            outcome = .success(result)
        } catch {
            outcome = .failure(error)
        }
        switch outcome {
        case .success(let result):
            report(.tookOver(result, request?.cause ?? .operator, reason: request?.reason ?? "asked"))
        case .failure(let error): report(.failure(error))
        }
        if case .success = outcome { replica.forgetStaging() }
        let won = state.withLock { state -> Register? in
            state.outputs = []
            switch outcome {
            case .success(let result):
                state.status.phase = .running
                perform(state.machine.handle(.resumed), &state)
                state.finished = true
                complete(.success(result), &state)
            case .failure(let error):
                perform(state.machine.handle(.resumeFailed(error.message)), &state)
            }
            // A primary that asked for this waits for the end of the connection.
            state.link?.close()
            state.link = nil
            return state.won
        }
        if let won { report(.becamePrimary(won)) }
    }
}
