import Model

/// Taking over: who may, and what has to be done first.
extension StandbyMachine {
    mutating func start(_ actions: inout [Action]) {
        guard case .orphaned = state, let image else { return }
        if let register, register.owner == node, register.mode == .solo, register.term > image.term {
            // Won before the restart.
            return win(register, &actions)
        }
        actions.append(.reportPrimaryLost)
        if !rule.isManual { arbitrate(&actions) }
    }

    /// I16: the pair that the register names is this image's, and of no other.
    func isEligible(_ current: Register, _ image: Image) -> Bool {
        current.owner == image.primary && current.mode == .paired && current.standby == image.identity
            && current.session == image.session && current.lineage == image.lineage && applied > .firstCopy
    }

    /// Only the holder of this image can have won a later term for this host: every other image had to be given up
    /// before the session of this one was accepted.
    private func isOurs(_ current: Register, _ image: Image) -> Bool {
        current.owner == node && current.mode == .solo && current.lineage == image.lineage && current.term > image.term
    }

    /// The register is still the one under which the session was offered: the primary may have asked for PAIRED, and the
    /// image may yet be the last one.
    private func isUndecided(_ current: Register, _ image: Image) -> Bool {
        current.owner == image.primary && current.mode == .solo && current.term == image.term
    }

    mutating func arbitrate(_ actions: inout [Action]) {
        guard let image else { return }
        state = .arbitrating
        // First, so that QEMU is at work while the arbiter is.
        loadIfReady(&actions)
        if let register, isEligible(register, image) {
            ask(from: register, &actions)
        } else {
            actions.append(.readRegister)
        }
    }

    private mutating func ask(from current: Register, _ actions: inout [Action]) {
        let new = current.solo(owner: node, term: current.term.next)
        let nonce = Nonce(random.next())
        request = Request(expecting: current, new: new, nonce: nonce)
        actions.append(.compareAndSet(expecting: current, to: new, nonce: nonce))
    }

    mutating func take(_ answer: RegisterAnswer, to nonce: Nonce, _ actions: inout [Action]) {
        guard case .arbitrating = state, let request, request.nonce == nonce else { return }
        switch answer {
        case .applied(let current): learn(current, &actions)
        case .conflict(let current): learn(current, &actions)
        // I12: reading tells whether it took effect.
        case .unknown: actions.append(.readRegister)
        }
    }

    mutating func failToRead(_ reason: String, _ actions: inout [Action]) {
        switch state {
        case .arbitrating: actions.append(.readRegister)
        case .consulting: decline("the arbiter gives it no answer: \(reason)", &actions)
        default: break
        }
    }

    mutating func learn(_ current: Register?, _ actions: inout [Action]) {
        if case .consulting = state { return consult(current, &actions) }
        guard case .arbitrating = state, let image else { return }
        guard let current, current.term >= seen else {
            actions += [
                .report("the arbiter forgot term \(seen): it is not used until both hosts are enrolled again"),
                .readRegister,
            ]
            return
        }
        seen = current.term
        register = current
        if isOurs(current, image) {
            win(current, &actions)
        } else if let request, current == request.expecting {
            actions.append(.compareAndSet(expecting: request.expecting, to: request.new, nonce: request.nonce))
        } else if isEligible(current, image) {
            ask(from: current, &actions)
        } else if isUndecided(current, image) {
            actions.append(.readRegister)
        } else {
            actions += [
                .report("\(current.owner) goes on alone (term \(current.term)): this image is outdated"), .closeLink,
            ]
            drop(&actions)
        }
    }

    mutating func beAsked(_ session: SessionID, _ term: Term, guestStands: Bool, _ actions: inout [Action]) {
        // The primary asks only after acknowledgement 1; while the arbiter is being asked, its answer decides.
        guard case .holding = state, let image, image.session == session else { return }
        guard guestStands, !rule.isManual else {
            actions.append(.discard(after: staged))
            guard guestStands else { return goAhead(term, &actions) }
            handOver = term
            return beginLoading(&actions)
        }
        handOver = term
        state = .consulting
        actions.append(.readRegister)
    }

    private mutating func beginLoading(_ actions: inout [Action]) {
        state = .loading
        loadIfReady(&actions)
    }

    /// I34: an arbiter that answers now will most likely answer in the few milliseconds that loading takes.
    private mutating func consult(_ current: Register?, _ actions: inout [Action]) {
        guard let image else { return }
        guard let current, current.term >= seen, isEligible(current, image) else {
            return decline("the arbiter has another register of this VM", &actions)
        }
        seen = current.term
        register = current
        actions.append(.discard(after: staged))
        beginLoading(&actions)
    }

    /// Nobody was asked for anything and QEMU waits as before: what was acknowledged counts on.
    private mutating func decline(_ reason: String, _ actions: inout [Action]) {
        guard let image else { return }
        handOver = nil
        state = .holding
        actions.append(.decline(image.session, reason))
    }

    /// The primary wants this host to go on: the arbiter is asked, or its agent's word is enough where there is none.
    private mutating func goAhead(_ term: Term, _ actions: inout [Action]) {
        guard rule.isManual, let image else { return arbitrate(&actions) }
        win(
            Register(
                term: max(term, seen.next), owner: node, mode: .solo, session: .none, standby: nil,
                lineage: image.lineage, level: register?.level ?? .system), &actions)
    }

    mutating func force(_ actions: inout [Action]) {
        switch state {
        case .orphaned:
            guard let image, rule.isManual else { return arbitrate(&actions) }
            stopFencing(&actions)
            // Nobody could be asked: what the other side did meanwhile is another history (`Register.lineage`).
            win(
                Register(
                    term: Term(max(seen, register?.term ?? image.term).number + Term.forcedStep), owner: node,
                    mode: .solo, session: .none, standby: nil, lineage: Lineage(random.next()),
                    level: register?.level ?? .system), &actions)
        case .arbitrating:
            actions.append(.refuseCommand("the arbiter is being asked: \(node) goes on as soon as it agrees"))
        case .failed where applied > .firstCopy && applied == staged:
            state = .takingOver(isRecorded: true)
            if loading == .refused { loading = .waiting }
            loadIfReady(&actions)
            resumeIfReady(&actions)
        case .preparing, .receiving, .holding:
            actions.append(.refuseCommand("the primary is there: ask there"))
        case .none, .failed:
            actions.append(.refuseCommand("there is no whole image here to go on from"))
        case .takingOver, .resuming, .running:
            actions.append(.refuseCommand("the guest is being resumed, or runs here"))
        case .consulting, .loading, .returning:
            actions.append(.refuseCommand("a switchover is under way"))
        }
    }

    /// From here on this host is the only one that may run the guest.
    mutating func win(_ won: Register, _ actions: inout [Action]) {
        register = won
        seen = max(seen, won.term)
        request = nil
        state = .takingOver(isRecorded: false)
        isCleared = false
        // A primary that has the guest standing still is told what comes of it.
        if handOver == nil { actions.append(.closeLink) }
        actions.append(.persist(record))
        if !won.level.holdsOutput { actions.append(.awaitLease(won.term)) }
        loadIfReady(&actions)
        fenceBeaten(&actions)
    }

    /// I26: whatever the former owner's gate let out has left.
    mutating func beCleared(_ actions: inout [Action]) {
        guard case .takingOver = state else { return }
        isCleared = true
        resumeIfReady(&actions)
    }

    /// I8: everything committed is in the replica, and nothing comes any more. Loading is no decision: what is loaded stands
    /// still, and can be given up like any image.
    mutating func loadIfReady(_ actions: inout [Action]) {
        guard loading == .waiting, applied == staged, level.holdsOutput else { return }
        loading = .underWay
        actions.append(.load(from: staged))
    }

    mutating func beLoaded(_ actions: inout [Action]) {
        guard loading == .underWay else { return }
        loading = .done
        switch state {
        case .loading: if let handOver { goAhead(handOver, &actions) }
        case .takingOver: resumeIfReady(&actions)
        default: break
        }
    }

    /// I37: the guest can be booted where it could be resumed, unless it stands still at a primary that may go on with it.
    public var mayBoot: Bool {
        guard bootsFromDisk, handOver == nil else { return false }
        switch state {
        case .arbitrating, .takingOver: return true
        default: return false
        }
    }

    mutating func failToLoad(_ reason: String, _ actions: inout [Action]) {
        guard loading == .underWay || (loading == .done && mayBoot) else { return }
        refuseState(reason, &actions)
        if case .loading = state { beginReturn(&actions) } else { resumeIfReady(&actions) }
    }

    private mutating func refuseState(_ reason: String, _ actions: inout [Action]) {
        loading = .refused
        actions.append(.report("QEMU did not load checkpoint \(staged): \(reason)"))
    }

    /// I8, I11: QEMU has everything committed, and the term is durable.
    mutating func resumeIfReady(_ actions: inout [Action]) {
        guard case .takingOver(isRecorded: true) = state else { return }
        guard level.holdsOutput else { return startIfReady(&actions) }
        switch loading {
        case .waiting, .underWay: break
        case .done:
            state = .resuming
            actions.append(.resume(from: staged))
        case .refused where mayBoot:
            state = .resuming
            actions.append(
                .report(
                    "\(node) may go on, and its QEMU did not load checkpoint \(staged): the guest's memory is lost, and it is"
                        + " booted from its disk as of epoch \(staged)"))
            actions.append(.boot(from: staged))
        case .refused:
            actions.append(.report("\(node) may go on, and its QEMU did not load checkpoint \(staged)"))
            fail(&actions)
        }
    }

    /// At a level whose output is not held the memory may be behind what was seen, and the disks are not.
    private mutating func startIfReady(_ actions: inout [Action]) {
        guard isCleared, applied == staged else { return }
        state = .resuming
        actions.append(.startFromDisk)
    }

    mutating func run(_ actions: inout [Action]) {
        guard case .resuming = state, let register else { return }
        state = .running
        image = nil
        if handOver != nil { actions += [.tellRunning(register), .closeLink] }
        actions.append(.becomePrimary(register))
    }

    mutating func failToResume(_ reason: String, _ actions: inout [Action]) {
        guard case .resuming = state else { return }
        // Why it was not booted or started says that by itself.
        let isBoot = loading == .refused || !level.holdsOutput
        actions.append(.report(isBoot ? reason : "QEMU did not go on from checkpoint \(staged): \(reason)"))
        fail(&actions)
    }

    private mutating func fail(_ actions: inout [Action]) {
        state = .failed
        if handOver != nil { actions.append(.closeLink) }
    }

    // MARK: - Switchover

    /// The guest stands still at the primary, and there is nothing here that could go on with it.
    mutating func loseHandedOver(_ reason: String, _ actions: inout [Action]) {
        refuseState(reason, &actions)
        beginReturn(&actions)
    }

    private mutating func beginReturn(_ actions: inout [Action]) {
        state = .returning
        actions.append(.endReplica)
    }

    /// I2: nothing of the guest can run here any more, and the register still names the primary.
    mutating func giveBack(_ actions: inout [Action]) {
        guard case .returning = state, let image else { return }
        actions += [.giveBack(image.session), .closeLink]
        drop(&actions)
    }
}
