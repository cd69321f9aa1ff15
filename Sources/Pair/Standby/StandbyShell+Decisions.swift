import LinuxSystem
import Messages
import Model
import Protocol
import Registers
import Shipping
import Standby
import Transport
import Wire

/// What the machine decides, carried out. `perform` runs under the session's lock.
extension StandbyShell {
    func handle(_ event: StandbyMachine.Event) {
        state.withLock { perform($0.machine.handle(event), &$0) }
        wake.signal()
    }

    func perform(_ actions: [StandbyMachine.Action], _ state: inout State) {
        for action in actions {
            switch action {
            case .acknowledge(let epoch):
                guard let digest = state.digests.removeValue(forKey: epoch) else { break }
                state.link?.send(controlFrame(Ack(digest: digest), epoch: epoch))
            case .apply(let epoch): state.enqueue(.checkpoint(epoch))
            case .discard(let epoch):
                state.stage.discardIncomplete()
                state.pending = []
                state.digests = [:]
                for disk in replica.disks { disk.discard(after: epoch) }
            case .compareAndSet(let expected, let new, let nonce):
                report(.event(.asked, new.question(to: custody.arbiter?.name)))
                questions?.compareAndSet(expecting: expected, to: new, nonce: nonce) { [weak self] answer in
                    self?.report(answer.event)
                    self?.handle(.answered(nonce, answer))
                }
            case .readRegister:
                var limit: Duration?
                if case .consulting = state.machine.state { limit = Self.consultingMax }
                questions?.read(within: limit) { [weak self] reading in
                    switch reading {
                    case .value(let register): self?.handle(.registerRead(register))
                    case .unknown(let reason):
                        self?.state.withLock { $0.status.lastError = reason }
                        self?.handle(.registerUnreadable(reason))
                    }
                }
            case .persist(let record): persist(record)
            case .fencePeer(let peer, let nonce):
                let reason = state.takeOver?.reason ?? "the primary is lost"
                custody.fences[peer]?.ask(for: vm, as: .standby, reason: reason) { [weak self] ending in
                    self?.handle(StandbyMachine.Event(ending, of: peer, nonce))
                }
            case .stopFencing: for fence in custody.fences.values { fence.stop(for: vm) }
            case .confirmDismissal:
                state.link?.send(GoodbyeMessage(kind: .unprotected, reason: "nothing goes on from here").frame)
            case .closeLink:
                state.link?.close()
                state.link = nil
            case .load(let epoch): state.enqueue(.load(from: epoch))
            case .resume(let epoch): state.enqueue(.resume(from: epoch))
            case .tellRunning(let register): state.link?.send(RegisterMessage(register).frame)
            case .becomePrimary(let register): state.won = register
            case .endReplica: state.enqueue(.endReplica)
            case .giveBack:
                let reason = "\(custody.node) gave the guest back: \(state.status.lastError ?? "no reason given")"
                state.link?.send(GoodbyeMessage(kind: .handedBack, reason: reason).frame)
            case .decline(_, let reason):
                state.takeOver = nil
                state.declined = reason
                let text = "\(custody.node) did not take over, and is the standby as before: \(reason)"
                report(.event(.refused, text))
                state.link?.send(GoodbyeMessage(kind: .handedBack, reason: reason, staysStandby: true).frame)
            case .reportPrimaryLost:
                state.status.phase = .peerLost
            case .dismantle:
                let reason = state.status.lastError ?? "the primary ended protection"
                complete(.failure(SessionError(.refused, reason)), &state)
                state.enqueue(.dismantle(reason: reason))
            case .refuseCommand(let reason):
                complete(.failure(SessionError(.refused, "\(vm) cannot be taken over: \(reason)")), &state)
            case .report(let text):
                state.status.lastError = text
                report(.event(.state, text))
            case .prepare, .accept, .refuse:
                preconditionFailure("offers are answered before the session begins")
            }
        }
        switch state.machine.state {
        case .loading, .takingOver, .resuming: state.status.phase = .failingOver
        case .failed:
            state.status.phase = .failed
            complete(.failure(SessionError(.qemu, state.status.lastError ?? "QEMU did not go on")), &state)
        default: break
        }
    }

    func complete(_ outcome: Result<TakeOverReport, SessionError>, _ state: inout State) {
        let completions = state.takeOver?.completions ?? []
        state.takeOver?.completions = []
        for completion in completions { completion(outcome) }
    }

    func persist(_ record: LocalRecord) {
        custody.remember(record, of: vm) { [self] failure in
            guard let failure else {
                state.withLock { $0.takeOver?.recordedAt = MonotonicClock.now() }
                return handle(.persisted(record.seen))
            }
            state.withLock { $0.status.lastError = failure.message }
            report(.failure(failure))
        }
    }

    /// What the primary did wrong ends the link and leaves the image whole; a failure of our own loses the image.
    func fail(_ error: SessionError, _ state: inout State) {
        log.error("\(error)", metadata: ["vm": "\(vm)"])
        state.status.lastError = error.message
        report(.failure(error))
        tellWhy(error.message, &state)
        let link = state.link
        state.link = nil
        link?.close()
        if error.code == .protocolBroken {
            loseLink(error.message, &state)
        } else {
            perform(state.machine.handle(.imageLost(error.message)), &state)
        }
    }

    /// The primary is to know more than that the connection was closed. In a switchover it is told by what comes of that.
    func tellWhy(_ reason: String, _ state: inout State) {
        switch state.machine.state {
        case .preparing, .receiving, .holding: state.link?.send(GoodbyeMessage(kind: .failed, reason: reason).frame)
        default: break
        }
    }

    func losePrimary(_ reason: String, _ state: inout State) {
        let now = MonotonicClock.now()
        if state.status.lastError == nil { state.status.lastError = reason }
        if state.takeOver == nil {
            state.takeOver = TakeOverRequest(cause: .primaryLost, reason: reason, decidedAt: now)
        }
        let before = state.machine.state
        let actions = state.machine.handle(.linkLost(session))
        if !actions.isEmpty, before == .holding || before == .consulting {
            report(.event(.detected, "the primary is not heard any more: \(reason)"))
        }
        perform(actions, &state)
    }
}
