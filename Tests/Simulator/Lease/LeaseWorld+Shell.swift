import Model
import Protocol

/// What an agent does around the machine: carry its actions out, and ask for the register.
extension LeaseWorld {
    func handle(_ event: LeaseMachine.Event, _ host: LeaseHost) {
        let before = host.machine
        let actions = host.machine.handle(event, at: reading(host))
        coverage.visit(before.state, event, isEffect: before != host.machine || !actions.isEmpty)
        if before != host.machine || !actions.isEmpty {
            trace { "host \(host.index): \(before.state) \(event) -> \(host.machine.state) \(actions)" }
        }
        if actions.contains(.mayRun) { judgeOpening(host, "the guest may start") }
        enqueue(actions.map(LeaseStep.action), host)
        if mutant == .gateInTheAgent, case .open = before.state, case .shut = host.machine.state {
            enqueue([.action(.close)], host)
        }
        armTimer(host)
    }

    func armTimer(_ host: LeaseHost) {
        guard host.isUp, var due = host.machine.nextTimer else { return }
        if mutant == .asksTooLate, case .open(_, let until) = host.machine.state { due = until }
        let ahead = reading(host) - host.clock.read(now)
        let delay = host.clock.delay(until: due > ahead ? due - ahead : 0, now)
        queue.add(.timer(host.index, life: host.life), at: now + delay)
    }

    func enqueue(_ steps: [LeaseStep], _ host: LeaseHost) {
        host.steps += steps
        guard !host.isStepping, !host.steps.isEmpty else { return }
        host.isStepping = true
        scheduleStep(host)
    }

    private func scheduleStep(_ host: LeaseHost) {
        if !isHealing, random.chance(perMille: plan.stalls) {
            stall(host, random.outage() * 500)
        } else if !isHealing, random.chance(perMille: plan.hesitations) {
            stall(host, random.within(1_000...48_000))
        }
        if case .request = host.steps.first, let fault = host.stallAtRequest {
            host.stallAtRequest = nil
            host.diesAfterRequest = fault.dies
            stall(host, fault.microseconds)
        }
        queue.add(.step(host.index, life: host.life), at: now + random.within(20...200))
    }

    func step(_ host: LeaseHost) {
        let step = host.steps.removeFirst()
        carryOut(step, host)
        guard host.isUp else { return }
        host.isStepping = !host.steps.isEmpty
        if host.isStepping { scheduleStep(host) }
    }

    private func carryOut(_ step: LeaseStep, _ host: LeaseHost) {
        switch step {
        case .action(let action): carryOut(action, host)
        case .compute(let request, let until, let attempts):
            let left = until > reading(host) ? (until - reading(host)) / 1_000_000 : 0
            guard left > 0 else { return }
            let milliseconds = mutant == .wholeLengthEachTime ? timing.length / 1_000_000 : left
            host.steps.insert(
                .request(request, until: until, milliseconds: milliseconds, attempts: attempts), at: 0)
        case .request(let request, let until, let milliseconds, let attempts):
            judgeHealth(host)
            let reading = host.clock.read(now)
            switch host.gate.carryOut(request, milliseconds: milliseconds, reading, mutant: mutant) {
            case .done:
                openings += request == .open ? 1 : 0
                hasOpened = true
                if isOpen(host) { judgeOpening(host, "a gate is \(request == .open ? "opened" : "renewed")") }
            case .hadShut: handle(.hadShut, host)
            case .late:
                guard attempts > 1 else { return handle(.hadShut, host) }
                draw(request, until, attempts: attempts - 1, host)
            }
            if host.diesAfterRequest {
                host.diesAfterRequest = false
                trace { "host \(host.index): the agent dies" }
                stop(host)
                queue.add(.agentStarts(host.index), at: now + random.outage() * 1000)
            }
        case .claim(let expecting, let new, let kind, let nonce):
            guard host.claim?.nonce == nonce || host.claim == nil else { return }
            host.claim = (nonce, expecting, new, kind, now)
            sendToArbiter(.claim(host.index, nonce: nonce, expecting: expecting, new: new))
        case .read(let question): sendToArbiter(.reading(host.index, question: question))
        case .tellStandby(let register): sendToPeer(.standsBy(register), from: host)
        case .fence: queue.add(.fence(1 - host.index, by: host.index), at: now + random.within(1_000...900_000))
        }
    }

    private func draw(_ request: SimKernelGate.Request, _ until: UInt64, attempts: Int, _ host: LeaseHost) {
        host.gate.drawTicket(host.clock.read(now))
        host.steps.insert(.compute(request, until: until, attempts: attempts), at: 0)
    }

    private func carryOut(_ action: LeaseMachine.Action, _ host: LeaseHost) {
        switch action {
        case .ask(let source, let question):
            host.asked[question] = reading(host)
            host.newest[source] = question
            guard let term = host.machine.term else { return }
            switch source {
            case .arbiter: sendToArbiter(.reading(host.index, question: question))
            case .standby:
                if mutant != .asksArbiterOnly {
                    sendToPeer(.promiseAsked(question: question, term), from: host)
                }
            }
        case .promise(let question, let term): sendToPeer(.promise(question: question, term), from: host)
        case .open(let until): draw(.open, until, attempts: 3, host)
        case .renew(let until): draw(.renew, until, attempts: 3, host)
        case .close: host.gate.close()
        case .mayRun: host.hasGuest = true
        case .report: break
        }
    }

    // MARK: - What comes

    func receive(_ message: LeaseMessage, _ host: LeaseHost) {
        switch message {
        case .reading(let question, let register):
            if host.isAdopting {
                if question == 0 { adopt(register, host) }
                return
            }
            learn(register, host)
            if register.owner == host.index {
                confirm(question, register.term, .arbiter, host)
            } else {
                handle(.denied(register.term), host)
            }
        case .applied(let nonce, let register):
            guard let claim = host.claim, claim.nonce == nonce else { return }
            host.claim = nil
            learn(register, host)
            var kind = claim.kind
            if mutant == .takerDoesNotWait { kind = .goingOn }
            let mayMutate = mutant == .takerDoesNotWait || mutant == .restartSkipsWait
            handle(.won(register.term, kind), host)
            if mayMutate, kind == .goingOn { host.hasGuest = true }
            if let standby = register.standby, standby != host.index { enqueue([.tellStandby(register)], host) }
            if kind == .toStart, plan.fences, random.chance(perMille: 600) { enqueue([.fence], host) }
        case .conflict(let nonce, let register):
            guard host.claim?.nonce == nonce else { return }
            host.claim = nil
            learn(register, host)
            if register.owner == host.index {
                claim(from: register, owner: host.index, standby: nil, host.hasGuest ? .goingOn : .toStart, host)
            } else {
                handle(.denied(register.term), host)
            }
        case .promiseAsked(let question, let term):
            host.heardAt = now
            if mutant == .promisesAfterAsking {
                sendToPeer(.promise(question: question, term), from: host)
            } else {
                handle(.promiseAsked(question: question, term), host)
            }
        case .promise(let question, let term):
            confirm(question, term, .standby, host)
        case .standsBy(let register):
            host.heardAt = now
            guard register.term > host.known?.term ?? Term(0), !host.isAdopting else { return }
            learn(register, host)
            handle(.standsBy(register.term), host)
        case .unpaired(let term):
            host.heardAt = now
            guard let known = host.known, known.term == term, host.machine.term == term else { return }
            claim(from: known, owner: host.index, standby: nil, .goingOn, host)
        case .fenced: handle(.peerFenced, host)
        case .takeOver: takeOver(host)
        case .look: look(host)
        }
    }

    private func confirm(_ question: UInt64, _ term: Term, _ source: LeaseMachine.Source, _ host: LeaseHost) {
        var question = question
        if mutant == .anyAnswerCounts { question = host.newest[source] ?? question }
        let before = host.steps.count
        let sinceAsked = reading(host) - min(reading(host), host.asked[question] ?? reading(host))
        handle(.confirmed(question: question, term), host)
        guard mutant == .leaseCountsFromAnswer else { return }
        for index in host.steps.indices.dropFirst(before) {
            switch host.steps[index] {
            case .action(.open(let until)): host.steps[index] = .action(.open(until: until + sinceAsked))
            case .action(.renew(let until)): host.steps[index] = .action(.renew(until: until + sinceAsked))
            default: break
            }
        }
    }

    /// Takes up a newer register. A guest that is another's is ended.
    private func learn(_ register: LeaseRegister, _ host: LeaseHost) {
        guard register.term >= host.known?.term ?? Term(0) else { return }
        host.known = register
        if register.owner != host.index { host.hasGuest = false }
    }

    /// What a restarted agent does: it holds back until it has claimed the next term (I14).
    private func adopt(_ register: LeaseRegister, _ host: LeaseHost) {
        host.isAdopting = false
        learn(register, host)
        guard register.owner == host.index else { return }
        let kind: LeaseMachine.Claim =
            host.hasGuest || mutant == .restartSkipsWait ? .goingOn : .toStart
        claim(from: register, owner: host.index, standby: nil, kind, host)
    }

    private func claim(
        from register: LeaseRegister, owner: HostIndex, standby: HostIndex?, _ kind: LeaseMachine.Claim,
        _ host: LeaseHost
    ) {
        guard host.claim == nil else { return }
        let new = LeaseRegister(term: Term(register.term.number + 1), owner: owner, standby: standby)
        let nonce = random.next()
        host.claim = (nonce, register, new, kind, now)
        enqueue([.claim(expecting: register, new, kind, nonce: nonce)], host)
    }

    private func takeOver(_ host: LeaseHost) {
        guard let known = host.known, known.standby == host.index, case .promising(known.term) = host.machine.state,
            host.claim == nil
        else { return }
        handle(.asksToTakeOver(known.term), host)
        claim(from: known, owner: host.index, standby: nil, .toStart, host)
    }

    /// Five times a second: ask again, pair, take over from who is not heard.
    private func look(_ host: LeaseHost) {
        queue.add(.message(host.index, .look), at: now + random.within(150_000...250_000))
        if host.isAdopting {
            enqueue([.read(question: 0)], host)
        } else if let claim = host.claim {
            guard now - claim.at > 300_000 else { return }
            host.claim?.at = now
            enqueue([.claim(expecting: claim.expecting, claim.new, claim.kind, nonce: claim.nonce)], host)
        } else if let known = host.known, known.owner == host.index, host.machine.term == known.term {
            if known.standby == nil, plan.isGentle || random.chance(perMille: 500) {
                claim(from: known, owner: host.index, standby: 1 - host.index, .goingOn, host)
            } else if known.standby != nil {
                enqueue([.tellStandby(known)], host)
            }
        } else if let known = host.known, known.owner == host.index {
            // Won by an earlier life of this agent, or by a request that it took for lost.
            claim(from: known, owner: host.index, standby: nil, host.hasGuest ? .goingOn : .toStart, host)
        } else if case .promising = host.machine.state {
            if now - host.heardAt > plan.silence { takeOver(host) }
        } else if let known = host.known {
            // A standby that was restarted, or asked in vain, is no standby of that term any more.
            if known.standby == host.index { sendToPeer(.unpaired(known.term), from: host) }
            if now - host.heardAt > 1_000_000 {
                host.isAdopting = true
                enqueue([.read(question: 0)], host)
            }
        }
    }
}
