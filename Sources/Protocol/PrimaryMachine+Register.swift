import Model

/// The register: what is asked for, and what follows from the answers.
extension PrimaryMachine {
    // MARK: - Taking the guest in hand

    /// I14: nothing leaves until the register was read and claimed.
    mutating func start(_ actions: inout [Action]) {
        guard case .adopting = state, request == nil else { return }
        actions.append(.hold)
        guard rule.isManual else {
            actions.append(.readRegister)
            return
        }
        guard let register else { return ask(.solo, from: nil, &actions) }
        guard isMine(register) else { return beDeposed(by: register, &actions) }
        adopt(register, &actions)
    }

    /// True when this host owns the register, or may claim it from its owner, by that one's word or the operator's.
    private func isMine(_ current: Register) -> Bool { current.owner == node || mayClaim(current) }

    private func mayClaim(_ current: Register) -> Bool { isFresh && (overridesRegister || current == yielded) }

    private mutating func adopt(_ current: Register, _ actions: inout [Action]) {
        guard isFresh || current.lineage == lineage else {
            // Another history of the guest was claimed since: this process is a leftover.
            register = current
            return fence(&actions)
        }
        register = current
        if isFresh, !mayClaim(current), current.mode == .paired, let standby = current.standby {
            leaveAlone(
                "\(standby.node) may hold the last state of this VM: fail over there, or say that this is overridden",
                &actions)
        } else if rule == .manual(.freeze) || promised, current.mode == .paired, !isFresh {
            // Nothing is known of the silence that began while this agent was away: nobody is fenced for it (I32).
            state = .frozen
            actions.append(.report("the agent was restarted and the standby is lost: output is held until you decide"))
        } else if isCopyLost {
            waitForDisk(&actions)
        } else {
            ask(.solo, from: current, &actions)
        }
    }

    // MARK: - Asking

    /// True while an answer of the arbiter is waited for.
    var isAsking: Bool {
        if let request { return !request.isGranted && !rule.isManual }
        if case .adopting = state { return !rule.isManual }
        return false
    }

    /// Asks for a change of `current`, instead of whatever was asked for before.
    mutating func ask(_ purpose: RegisterRequest.Purpose, from current: Register?, _ actions: inout [Action]) {
        // A guest that is named now has the level that was asked for with it, whatever the last one had.
        let level = isFresh ? firstLevel : current?.level ?? firstLevel
        let term = rule.isManual ? max(current?.term ?? seen, seen).next : (current?.term ?? Term(0)).next
        let alone = Register(
            term: term, owner: node, mode: .solo, session: .none, standby: nil, lineage: lineage, level: level)
        guard let new = purpose.change(of: current, alone: alone, in: session) else { return }
        let nonce = Nonce(random.next())
        request = RegisterRequest(purpose: purpose, expecting: current, new: new, nonce: nonce)
        if rule.isManual {
            grant(new, &actions)
        } else {
            actions.append(.compareAndSet(expecting: current, to: new, nonce: nonce))
        }
    }

    // MARK: - Answers

    mutating func take(_ answer: RegisterAnswer, to nonce: Nonce, _ actions: inout [Action]) {
        guard let request, request.nonce == nonce, !request.isGranted else { return }
        switch answer {
        case .applied(let current) where current == request.new: grant(current, &actions)
        case .applied(let current): learn(current, &actions)
        case .conflict(let current): learn(current, &actions)
        // I12: neither yes nor no. Reading tells which, and asking again is harmless under the same nonce.
        case .unknown: actions.append(.readRegister)
        }
    }

    /// What the register is, from an answer or a reading.
    mutating func learn(_ current: Register?, _ actions: inout [Action]) {
        guard isAsking else { return learnBeforeStopping(current, &actions) }
        if let request, current == request.expecting {
            actions.append(.compareAndSet(expecting: request.expecting, to: request.new, nonce: request.nonce))
            return
        }
        guard let current, current.term >= seen else {
            guard seen > Term(0) else { return ask(.solo, from: nil, &actions) }
            // I11: a term that was in use cannot be unknown to the arbiter that granted it.
            actions += [
                .report("the arbiter forgot term \(seen): it is not used until both hosts are enrolled again"),
                .readRegister,
            ]
            return
        }
        seen = current.term
        guard isMine(current) else { return beDeposed(by: current, &actions) }
        guard let request else { return adopt(current, &actions) }
        if current == request.new {
            // Asked for by this run of the agent or, word for word, by an earlier one: either way the older term is burnt.
            grant(current, &actions)
        } else {
            register = current
            ask(request.purpose, from: current, &actions)
        }
    }

    mutating func failToRead(_ reason: String, _ actions: inout [Action]) {
        guard isAsking else { return refuseUnsounded("it gives no answer: \(reason)", &actions) }
        actions.append(.readRegister)
    }

    /// I11: what was granted is made durable before anything rests on it.
    private mutating func grant(_ current: Register, _ actions: inout [Action]) {
        register = current
        seen = max(seen, current.term)
        request?.isGranted = true
        actions.append(.persist(record))
    }

    mutating func enter(_ term: Term, _ actions: inout [Action]) {
        guard let granted = request, granted.isGranted, granted.new.term == term, let register else { return }
        request = nil
        switch (granted.purpose, state) {
        case (.solo, .pairing), (.solo, .paired):
            goOnWithoutDisk(&actions)
            if isLeaving { leave(&actions) } else { part(&actions) }
        case (.solo, _):
            isFresh = false
            (promised, isParting) = (false, false)
            goOnWithoutDisk(&actions)
            if guestStandsStill { actions.append(.resumeGuest) }
            guestStandsStill = false
            if isLeaving { return leave(&actions) }
            state = .solo
            actions += [.releaseEverything, .detach]
            startIfGone(&actions)
        case (.pair, .pairing(let session)):
            state = .paired(session)
            actions.append(.tellRegister(register))
        case (.level(let level), .paired):
            actions += [.tellRegister(register), .report("the dial stands at \(level.rawValue)")]
        case (.level(let level), _):
            actions.append(.report("the dial stands at \(level.rawValue)"))
        case (.handOver, .paired(let session)):
            state = .handingOver(session)
            actions.append(.askTakeOver(register.term, guestStands: true))
        case (.pair, _), (.handOver, _):
            break
        }
    }

    // MARK: - Somebody else

    /// Another node told us a register that is not older than ours and not our own.
    mutating func hear(of peer: Register, _ actions: inout [Action]) {
        hear(from: peer.owner, &actions)
        guard let register, peer.owner != node, peer.term >= register.term else { return }
        switch state {
        case .solo, .offering, .pairing, .paired, .handingOver, .frozen: break
        // Either it is being decided, or (`copying`) the other host has nothing yet that it could have gone on with.
        case .adopting, .copying, .lonely, .forked, .fencing, .fenced, .ended: return
        }
        guard rule.isManual else {
            // The arbiter knows.
            guard peer.term > register.term else { return }
            state = .adopting
            request = nil
            actions += [.hold, .closeLink, .readRegister]
            return
        }
        seen = max(seen, peer.term)
        if register.owner != node || (register.mode == .paired && peer.term > register.term) {
            // It was given away, or the operator gave it to the other host while nothing more left here.
            beDeposed(by: peer, &actions)
        } else {
            state = .forked
            request = nil
            guestStandsStill = true
            actions += [
                .hold, .stopGuest, .closeLink,
                .report(
                    "\(node) and \(peer.owner) both ran the guest alone (terms \(register.term) and \(peer.term)): it"
                        + " stands still here until you say which of the two histories stays; they are never merged"),
            ]
        }
    }

    private mutating func beDeposed(by current: Register, _ actions: inout [Action]) {
        seen = max(seen, current.term)
        register = current
        guard !isFresh else {
            return leaveAlone("\(current.owner) may run this VM (term \(current.term)), not \(node)", &actions)
        }
        fence(&actions)
    }

    /// A guest that was never ours is not touched.
    private mutating func leaveAlone(_ reason: String, _ actions: inout [Action]) {
        state = .ended
        request = nil
        actions += [
            .report("\(reason); the guest here is not protected"), .releaseEverything, .detach, .end,
        ]
    }

    mutating func fence(_ actions: inout [Action]) {
        stopFencing(&actions)
        guard !guestIsGone else {
            actions.append(.closeLink)
            return beFenced(&actions)
        }
        state = .fencing
        request = nil
        actions += [
            .dropHeld, .closeLink, .report("another host may run the guest: it is ended here"), .killGuest,
        ]
    }
}
