import Fencing
import LinuxSystem
import Model
import Protocol
import Registers

/// What was decided, carried out. `perform` runs under the session's lock.
extension PrimaryShell {
    /// Tells the duty of what happened, from any thread.
    func tell(_ happened: (inout PrimaryDuty) -> [PrimaryDuty.Output]) {
        state.withLock { perform(happened(&$0.duty), &$0) }
        wake.signal()
        report(.moved)
    }

    /// Feeds an event to the machine, from any thread.
    func handle(_ event: PrimaryMachine.Event) { tell { $0.handle(event) } }

    func perform(_ outputs: [PrimaryDuty.Output], _ state: inout State) {
        // How long the output that leaves was held at most, in nanoseconds.
        var held: UInt64 = 0
        for output in outputs {
            switch output {
            // The capture switched the gates while the guest stood still, and the thread goes on with the copy by itself.
            case .hold, .startCopy: break
            case .attach(let part): LevelParts.attach(part, &state, of: self)
            case .detach(let part): LevelParts.detach(part, &state, of: self)
            case .noted(let noted):
                let servers = state.parts.servers
                onServerQueue { servers.note(noted.loss, of: noted.disk) }
            case .lease(let event): custody.leases?.handle(event, of: options.vm)
            case .release(let epoch):
                let released = state.gates.flatMap { $0.release(through: epoch) }
                held = max(held, released.map(\.held).max() ?? 0)
                report(.released(released))
            case .releaseEverything:
                LostDisks.release(state.parts)
                report(.released(state.gates.flatMap { $0.releaseEverything() }))
            case .dropHeld:
                let dropped = state.gates.reduce(0) { $0 + $1.drop() }
                if dropped > 0 { report(.dropped(frames: dropped)) }
            case .send(let message): state.parts.link?.send(message.frame)
            case .closeLink: state.parts.link?.close()
            case .order(let order):
                // The register says SOLO: what flows needs no lease.
                if case .detach = order { custody.leases?.unguard(options.vm) }
                state.orders.add(order)
            case .ask(let question):
                questions?.ask(question) { [weak self] finding in self?.tell { $0.learn(finding) } }
            case .persist(let record): persist(record)
            case .fence(let peer, let nonce, let reason): fence(peer, nonce, reason)
            case .stopFencing: for fence in custody.fences.values { fence.stop(for: options.vm) }
            case .report(let news): report(news)
            case .account(var timings):
                timings.release = MonotonicClock.now() - state.duty.time
                timings.held = held
                state.figures.last = timings
                report(.epoch(timings))
            }
        }
        if let reason = state.duty.connection.linkDown { state.parts.disks.close(reason) }
        if state.duty.connection.isLost { state.parts.watch?.linkClosed() }
    }

    private func fence(_ peer: NodeName, _ nonce: Nonce, _ reason: String) {
        // A host that stood still noticed last: the other one fences it by now, and they must not both go off.
        let role = SessionBeats.stoodStill("\(options.vm)") ? FencingRole.standby : .primary
        custody.fences[peer]?.ask(for: options.vm, as: role, reason: reason) { [weak self] ending in
            self?.handle(PrimaryMachine.Event(ending, of: peer, nonce))
        }
    }

    private func persist(_ record: LocalRecord) {
        custody.remember(record, of: options.vm) { [self] failure in
            tell { duty in
                guard let failure else { return duty.persisted(record.seen, at: MonotonicClock.now()) }
                return duty.failToPersist(failure)
            }
        }
    }

    /// Ends a guest that another host goes on with; it runs no more when this returns.
    func end(_ process: borrowing PidDescriptor) {
        guard let bases, let guest else {
            try? process.kill()
            return
        }
        bases.end(guest, of: options.vm, process)
    }
}
