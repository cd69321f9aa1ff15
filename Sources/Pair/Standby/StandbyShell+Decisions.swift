import Foundation
import LinuxSystem
import Messages
import Model
import Protocol
import Registers
import Standby
import Transport

/// What was decided, carried out. `perform` runs under the session's lock.
extension StandbyShell {
    /// Tells the duty of what happened, from any thread.
    func tell(_ happened: (inout StandbyDuty) -> [StandbyDuty.Output]) {
        state.withLock { perform(happened(&$0.duty), &$0) }
        wake.signal()
        report(.moved)
    }

    func perform(_ outputs: [StandbyDuty.Output], _ state: inout State) {
        // I39: before anybody is asked.
        if !state.duty.isLending { state.carry.take()?.close() }
        for output in outputs {
            switch output {
            case .send(let message): state.link?.send(message.frame)
            case .closeLink:
                state.link?.close()
                state.link = nil
            case .enqueue(let work): state.queue.append(.decided(work))
            case .discard(let epoch):
                state.stage.discardIncomplete()
                (state.pending, state.heldBack) = ([], [])
                for disk in replica.disks { disk.discard(after: epoch) }
            case .ask(let question):
                questions?.ask(question) { [weak self] finding in self?.tell { $0.learn(finding) } }
            case .stopAsking: questions?.stop()
            case .persist(let record): persist(record)
            case .note(let note): custody.write(down: note, for: self)
            case .fence(let peer, let nonce, let reason):
                custody.fences[peer]?.ask(for: vm, as: .standby, reason: reason) { [weak self] ending in
                    self?.tell { $0.handle(StandbyMachine.Event(ending, of: peer, nonce)) }
                }
            case .stopFencing: for fence in custody.fences.values { fence.stop(for: vm) }
            case .lease(let event): custody.leases?.handle(event, of: vm)
            case .report(let news): report(news)
            case .settle(let outcome):
                let completions = state.completions
                state.completions = []
                for completion in completions { completion(outcome) }
            case .answer: preconditionFailure("offers are answered before the session begins")
            }
        }
        if state.shown.phase != state.duty.phase { state.shown = (state.duty.phase, Date()) }
    }

    private func persist(_ record: LocalRecord) {
        custody.remember(record, of: vm) { [self] failure in
            tell { duty in
                guard let failure else { return duty.persisted(record.seen, at: MonotonicClock.now()) }
                return duty.failToPersist(failure)
            }
        }
    }

    func fail(_ error: SessionError, _ state: inout State) {
        log.error("\(error)", metadata: ["vm": "\(vm)"])
        state.watch.linkClosed()
        perform(state.duty.fail(error, at: MonotonicClock.now(), hostLives: state.watch.hostLives), &state)
    }
}
