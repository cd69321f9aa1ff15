import Model
import Protocol

/// What the operator wants, what the arbiter and the disk say, and the end.
extension PrimaryDuty {
    package mutating func unprotect() -> [Output] {
        isUnprotectAsked = true
        return handle(.unprotect)
    }

    /// Protection cannot go on here. Where only a confirmation or the operator lets the guest go, a failure of ours is neither.
    package mutating func leaveInOrder() -> [Output] {
        switch machine.state {
        case .frozen, .forked, .handingOver: []
        default: handle(.unprotect)
        }
    }

    /// The next epoch follows it; the standby is told.
    package mutating func tune(_ tuning: EpochTuning) -> [Output] {
        self.tuning = tuning
        // Before the standby has agreed to a session it is told by the offer, or as soon as it has.
        guard case .success? = connection.answer, connection.linkDown == nil else { return [] }
        return [.send(.tuning(tuning, isStalled: connection.isStalled))]
    }

    /// The operator wants a standby for a guest that runs alone.
    package mutating func protect() {
        isAsked = true
        retry.reset()
    }

    /// Another host offered the VM as its own.
    package mutating func hear(of offer: SessionOffer) -> [Output] {
        handle(
            .peerRegister(
                Register(
                    term: offer.term, owner: offer.primary, mode: .solo, session: .none, standby: nil,
                    lineage: offer.lineage, level: offer.level)))
    }

    // MARK: - Switchover

    /// The guest is to go on at the standby.
    package mutating func switchOver() -> Reply {
        guard !isGuestPaused else { return .refused("somebody paused the guest: let it run on first") }
        let actions = recorded.decide(.switchOver)
        if case .refuseSwitchover(let reason)? = actions.first { return .refused(reason) }
        refusal?.isNew = false
        var outputs: [Output] = []
        perform(actions, &outputs)
        return .done(outputs)
    }

    /// Why the switchover that was asked for last did not come; nil when it did, or while that is open.
    var switchoverRefusal: String? {
        guard let refusal, refusal.isNew else { return nil }
        return refusal.text
    }

    /// How a switchover from this host stands, after `switchOver`.
    var switchover: Switchover {
        switch machine.state {
        case .paired where !machine.isSwitchingOver: .failed(refusal?.text ?? lastError ?? "no reason given")
        case .paired, .handingOver, .adopting, .lonely, .fencing: .underWay
        case .fenced: .done
        default: .failed(lastError ?? "no reason given")
        }
    }

    /// What only the operator can say: that this copy of the guest goes on, or that it is given up.
    package mutating func settle(goesOn: Bool) -> Reply {
        let before = machine.state
        let actions = recorded.decide(goesOn ? .goOn : .giveUp)
        if machine.state == before, case .report(let reason)? = actions.first { return .refused(reason) }
        var outputs: [Output] = []
        perform(actions, &outputs)
        return .done(outputs)
    }

    // MARK: - Results

    package mutating func learn(_ finding: RegisterFinding) -> [Output] {
        var outputs: [Output] = []
        switch finding {
        case .answered(let nonce, let answer):
            outputs.append(.report(answer.event))
            feed(.answered(nonce, answer), &outputs)
        case .read(let register): feed(.registerRead(register), &outputs)
        case .unreadable(let reason):
            if phase != .protected { lastError = reason }
            if machine.isTurning { outputs += OpenTurn.tell(reason, &lastError) }
            feed(.registerUnreadable(reason), &outputs)
        }
        return outputs
    }

    package mutating func persisted(_ term: Term, at now: UInt64) -> [Output] {
        time = now
        return handle(.persisted(term))
    }

    package mutating func failToPersist(_ error: SessionError) -> [Output] {
        lastError = error.message
        return [.report(.failure(error))]
    }

    // MARK: - The end

    /// Protection ended, for this reason or by this error.
    mutating func finish(_ outcome: Result<String, SessionError>) -> [Output] {
        switch outcome {
        case .success(let reason):
            phase = .ended
            // What was not asked for here leaves its reason.
            lastError = isUnprotectAsked ? nil : reason
            return []
        case .failure(let error):
            let outputs = note(error)
            lastError = error.message
            phase = .failed
            return outputs
        }
    }
}
