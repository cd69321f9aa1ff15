import Foundation
import GuestNetwork
import LinuxSystem
import Messages
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
        var applier = Applier(memory: replica.memory, disks: replica.disks, work: imageWork)
        // Of the QEMU that waited, and ended.
        var ended: Int32 = 0
        defer { heartbeat.withLock { $0?.stop() } }
        defer { questions?.stop() }
        defer { flusher.withLock { $0 = nil } }
        if replica.recovering { applier.restore(deviceState: replica.savedDeviceState(before: firstRecovered)) }
        while true {
            let (item, finished) = state.withLock { ($0.queue.next(), $0.duty.isFinished) }
            if finished { return }
            guard let item else {
                let waits = replica.qemuPID != ended
                waitReadable([wake.number, waits ? replica.qemuExitDescriptor : -1], nanoseconds: 1_000_000_000)
                _ = wake.take()
                if waits, let ending = replica.qemuEnding {
                    ended = replica.qemuPID
                    state.withLock { perform($0.duty.loseQEMU(ending), &$0) }
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

    func handle(_ item: ApplyQueue.Item, _ applier: inout Applier) throws(SessionError) {
        switch item {
        case .direct(let header, let body):
            try body.withUnsafeReadableBytes { (bytes) throws(SessionError) in
                try applier.applyDirectly(header, bytes)
            }
            state.withLock { state in
                state.noteApplied(header, body.readableBytes)
                resumeReading(&state)
            }
        case .decided(let work): try carryOut(work, &applier)
        case .question(let question): try answer(question)
        case .attachMemory(let message, let order): attachMemory(message, order, &applier)
        case .detachMemory:
            try state.withLock { (state) throws(SessionError) in try state.leaveMemory(of: replica) }
            applier.begin(with: nil)
            try replica.detachMemory()
        case .attachDetour(let message): StandbyCarry.attach(message, to: self)
        case .detachDetour: state.withLock { $0.carry.take() }?.close()
        }
    }

    private func attachMemory(_ message: AttachMessage, _ order: Int, _ applier: inout Applier) {
        guard state.withLock({ $0.isWanted(order: order) }) else { return }
        var refusal: String?
        do throws(SessionError) {
            try replica.attachMemory(message.blocks, message.nics)
            applier.begin(with: replica.memory)
        } catch {
            refusal = error.message
        }
        state.withLock { $0.takeMemory(of: replica, order: order, refusal: refusal) }
        report(.moved)
    }

    private func carryOut(_ work: StandbyDuty.Work, _ applier: inout Applier) throws(SessionError) {
        switch work {
        case .apply(let epoch):
            // Without memory there are none.
            if let frames = state.withLock({ $0.stage.frames(of: epoch) }) { try applier.apply(epoch, frames) }
            try replica.noteApplied(epoch, deviceState: applier.deviceState)
            state.withLock { state in
                state.stage.free(epoch)
                perform(state.duty.apply(epoch), &state)
                state.releaseHeldBack()
                resumeReading(&state)
            }
        case .load(let epoch): load(from: epoch, applier.deviceState)
        case .resume(let epoch): goOn(from: epoch, Replica.run)
        case .boot(let epoch): goOn(from: epoch, Replica.boot)
        case .startFromDisk:
            applier.begin(with: nil)
            custody.startTurn?.wait(
                until: { state.withLock { $0.queue.isLeaving } }, tell: { report(.event(.state, $0)) })
            goOn(from: state.withLock { $0.forgetMemory(of: replica) }, Replica.start)
            custody.startTurn?.end(hasStarted: replica.qemuPID != 0)
        case .endReplica:
            replica.endQEMU()
            tell { $0.handle(.replicaEnded) }
        case .dismantle(let reason):
            replica.dismantle(keepingMemory: state.withLock { $0.duty.keepsMemory })
            state.withLock { perform($0.duty.dismantled(), &$0) }
            report(.ended(reason))
        }
    }

    /// Nothing is applied meanwhile.
    private func answer(_ question: CopyQuestion) throws(SessionError) {
        let (session, applied) = state.withLock { ($0.duty.session, $0.duty.applied) }
        let answers = CopyAnswers(
            vm: vm, replica: replica, session: session, applied: applied, log: log,
            isLeaving: { [self] in state.withLock { $0.queue.isLeaving } })
        guard let frame = try answers.frame(for: question) else { return }
        state.withLock { $0.link }?.send(frame)
    }

    /// While the arbiter is asked and the term made durable; in a switchover before that.
    func load(from epoch: Epoch, _ deviceState: [UInt8]) {
        do throws(SessionError) {
            try replica.load(from: epoch, deviceState: deviceState)
        } catch {
            return tell { $0.failToLoad(error) }
        }
        tell { $0.loaded(at: MonotonicClock.now()) }
    }

    /// The guest runs here from now on, or does not: by what it was loaded with, or booted from its disk.
    private func goOn(
        from epoch: Epoch,
        _ begin: (Replica) -> (Epoch, [HeldOutput], UInt64) throws(SessionError) -> TakeOverReport
    ) {
        let (request, outputs) = state.withLock { ($0.duty.takeOver, $0.outputs.filter { $0.epoch <= epoch }) }
        let decidedAt = request?.decidedAt ?? MonotonicClock.now()
        let outcome: Result<TakeOverReport, SessionError>
        do throws(SessionError) {
            var result = try begin(replica)(epoch, outputs, decidedAt)
            result.decisionToLoaded = max(request?.loadedAt ?? 0, decidedAt) - decidedAt
            result.decisionToRecorded = max(request?.recordedAt ?? 0, decidedAt) - decidedAt
            outcome = .success(result)
        } catch {
            outcome = .failure(error)
        }
        switch outcome {
        case .success(let result):
            report(.tookOver(result, request?.cause ?? .operator, reason: request?.reason ?? "asked"))
            replica.forgetStaging()
        case .failure(let error): report(.failure(error))
        }
        let won = state.withLock { state -> Register? in
            state.outputs = []
            perform(state.duty.resumed(outcome), &state)
            return state.duty.won
        }
        if let won { report(.becamePrimary(won, starts: request?.starts ?? 0)) }
    }
}
