import Fencing
import LinuxSystem
import Messages
import Model
import Protocol
import Registers
import Shipping
import Wire

/// What the machine decides, carried out. `perform` runs under the session's lock.
extension PrimaryShell {
    /// Feeds an event to the machine, from any thread.
    func handle(_ event: PrimaryMachine.Event) {
        _ = state.withLock { perform($0.machine.handle(event), &$0) }
        wake.signal()
    }

    /// Returns how long the output that left by it was held at most, in nanoseconds.
    @discardableResult
    func perform(_ actions: [PrimaryMachine.Action], _ state: inout State) -> UInt64 {
        var held: UInt64 = 0
        for action in actions {
            switch action {
            case .hold: break  // The capture switched the gates while the guest stood still.
            case .release(let epoch):
                let released = state.gates.flatMap { $0.release(through: epoch) }
                held = max(held, released.map(\.held).max() ?? 0)
                report(.released(released))
                state.connection.link?.send(controlFrame(Released(), epoch: epoch))
            case .releaseEverything:
                report(.released(state.gates.flatMap { $0.releaseEverything() }))
            case .dropHeld:
                let dropped = state.gates.reduce(0) { $0 + $1.drop() }
                if dropped > 0 { report(.dropped(frames: dropped)) }
            case .compareAndSet(let expected, let new, let nonce):
                report(.event(.asked, new.question(to: custody.arbiter?.name)))
                ask(.compareAndSet(expecting: expected, to: new, nonce: nonce))
            case .readRegister: ask(.read(within: nil))
            case .persist(let record): persist(record)
            case .offer(let offer, _): state.orders.offer = offer
            case .startCopy: break  // The thread goes on with it as soon as `accepted` was taken.
            case .tellRegister(let register):
                state.connection.link?.send(RegisterMessage(register).frame)
                enterPair(&state)
            case .resumeGuest: state.orders.resumeGuest = true
            case .stopGuest: state.orders.stopGuest = true
            case .sealLast: state.orders.sealLast = true
            case .askTakeOver(let term, let stands):
                state.connection.link?.send(controlFrame(TakeOver(term: term, guestStands: stands)))
                guard stands else { break }
                state.connection.askedAt = MonotonicClock.now()
                report(.event(.session, "the standby has all of the guest and was asked to go on with it"))
            case .dismissStandby:
                let reason = state.failure?.message ?? "protection was ended"
                state.connection.link?.send(
                    GoodbyeMessage(kind: state.failure == nil ? .unprotected : .failed, reason: reason).frame)
            case .closeLink:
                if state.connection.linkDown == nil { state.connection.linkDown = "the session ended" }
                state.connection.link?.close()
            case .detach: state.orders.detach = true
            case .killGuest: state.orders.killGuest = true
            case .fencePeer(let peer, let nonce):
                let reason = state.connection.linkDown ?? "the standby is lost"
                // A host that stood still noticed last: the other one fences it by now, and they must not both go off.
                let role = SessionBeats.stoodStill("\(options.vm)") ? FencingRole.standby : .primary
                custody.fences[peer]?.ask(for: options.vm, as: role, reason: reason) { [weak self] ending in
                    self?.handle(PrimaryMachine.Event(ending, of: peer, nonce))
                }
            case .stopFencing: for fence in custody.fences.values { fence.stop(for: options.vm) }
            case .becomeStandby(let record): state.orders.standby = record
            case .end: state.orders.end = true
            case .refuseSwitchover(let text):
                if state.switchoverRefusal?.text != text {
                    report(.event(.refused, "\(options.vm) is not moved to \(options.standby): \(text)"))
                }
                state.switchoverRefusal = (text, isNew: true)
            case .report(let text):
                state.status.lastError = text
                if !state.isOldNews { report(.event(.state, text)) }
            }
        }
        return held
    }

    private func ask(_ question: RegisterQuestion) {
        questions?.ask(question) { [weak self] finding in
            switch finding {
            case .answered(let nonce, let answer):
                self?.report(answer.event)
                self?.handle(.answered(nonce, answer))
            case .read(let register): self?.handle(.registerRead(register))
            case .unreadable(let reason):
                self?.state.withLock { if $0.status.phase != .protected { $0.status.lastError = reason } }
                self?.handle(.registerUnreadable(reason))
            }
        }
    }

    /// The register says PAIRED and the standby was told: it can take over.
    private func enterPair(_ state: inout State) {
        guard state.status.phase != .protected else { return }
        state.status.phase = .protected
        state.status.lastError = nil
        state.retry.reset()
        state.choice.settle()
        report(.event(.protected, "checkpoint 1 is at the standby: it can take over from here on"))
    }

    private func persist(_ record: LocalRecord) {
        custody.remember(record, of: options.vm) { [self] failure in
            guard let failure else { return handle(.persisted(record.seen)) }
            state.withLock { $0.status.lastError = failure.message }
            report(.failure(failure))
        }
    }

    /// Something failed on our side of the session that cannot be mended: protection is given up in order.
    func fail(_ error: SessionError, _ state: inout State) {
        if state.failure == nil, error.code != .peerLost {
            state.failure = error
            state.status.lastError = error.message
            report(.failure(error))
        }
        loseStandby(error.message, &state)
        wake.signal()
    }

    /// What was a session is none any more.
    func noteLoss(_ reason: String, _ state: inout State) {
        state.status.phase = .peerLost
        report(.event(.standbyLost, "the standby is lost: \(reason)"))
    }

    func loseStandby(_ reason: String, _ state: inout State) {
        guard state.connection.linkDown == nil else { return }
        state.connection.watch?.linkClosed()
        state.connection.linkDown = reason
        if state.machine.session != nil { noteLoss(reason, &state) }
        perform(state.machine.handle(.standbyLost(state.connection.session)), &state)
        if case .frozen = state.machine.state {
            state.status.lastError =
                "the standby is lost (\(reason)): output is held until it is confirmed off, or you decide"
        } else {
            state.status.lastError = "the standby is lost: \(reason)"
        }
        state.connection.link?.close()
    }
}
