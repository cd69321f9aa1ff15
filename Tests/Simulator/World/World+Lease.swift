import Model
import Pair
import Protocol

/// The lease of each host: `LeaseMachine` decides, as it is shipped; clocks and the kernel's gate are fakes.
extension World {
    func newLease(_ host: Host) -> LeaseMachine {
        var timing = LevelPlan.timing
        if mutant == .ignoresClocks { timing.drift = 0 }
        return LeaseMachine(timing: timing, seed: levelRandom.next())
    }

    /// The host's CLOCK_BOOTTIME.
    func reading(_ host: Host) -> UInt64 { host.clock.read(now * 1000) }

    func tellLease(_ event: LeaseMachine.Event, _ host: Host) {
        let before = host.lease.state
        let actions = host.lease.handle(planted(event, host), at: reading(host))
        if isTraced, before != host.lease.state || !actions.isEmpty {
            trace("\(host.name) lease \(before) \(event) -> \(host.lease.state) \(shortened(actions))")
        }
        let life = host.life
        for action in actions {
            if case .report = action { continue }
            guard survives(host) else { return }
            carryOut(action, host)
            guard host.life == life, verdict.violation == nil else { return }
        }
        armLease(host)
    }

    private func planted(_ event: LeaseMachine.Event, _ host: Host) -> LeaseMachine.Event {
        guard case .won(let term, .toStart) = event else { return event }
        let isSkipped =
            mutant == .startsWithoutWaiting || (mutant == .forgetsToWaitAgain && host.isRecovered)
            || (mutant == .startsTurnedUnwaited && (host.replica?.staged ?? .firstCopy) > Epoch(1))
        return isSkipped ? .won(term, .restarting) : event
    }

    private func armLease(_ host: Host) {
        guard let due = host.lease.nextTimer else { return }
        let at = now + (host.clock.delay(until: due, now * 1000) + 999) / 1000
        if let armed = host.leaseArmedAt, armed >= now, armed <= at { return }
        host.leaseArmedAt = at
        queue.add(.agent(host.index, life: host.life, .leaseTimer), at: at)
    }

    func leaseTimer(_ host: Host) {
        host.leaseArmedAt = nil
        guard let due = host.lease.nextTimer else { return }
        if due <= reading(host) { tellLease(.timer, host) } else { armLease(host) }
    }

    private func carryOut(_ action: LeaseMachine.Action, _ host: Host) {
        switch action {
        case .ask(let source, let question): ask(source, question, host)
        case .promise(let question, let term): send(.promise(question, term), on: host.link, from: host)
        case .open(let until): draw(.open, until: until, attempts: 3, host)
        case .renew(let until): draw(.renew, until: until, attempts: 3, host)
        case .close: host.guest?.kernelGate?.close()
        case .mayRun:
            if host.primary != nil {
                tellPrimary(host) { $0.mayRun() }
            } else {
                tellStandby(host) { $0.handle(.cleared) }
            }
        case .report: break
        }
    }

    // MARK: - Questions

    private func ask(_ source: LeaseMachine.Source, _ number: UInt64, _ host: Host) {
        guard let term = host.lease.term else { return }
        host.newestQuestion = number
        if mutant == .opensUnconfirmed { return tellLease(.confirmed(question: number, term), host) }
        switch source {
        case .standby: send(.promiseAsked(number, term), on: host.link, from: host)
        case .arbiter:
            guard cutToArbiter[host.index] <= now else { return }
            var question = Question(id: 0, host: host.index, life: host.life, kind: .lease(number))
            question.store = arbiter.store
            var delay = levelRandom.within(1...10)
            if arbiter.slowUntil > now { delay += levelRandom.within(0...1500) }
            if !isHealing, levelRandom.chance(perMille: plan.lateRequests) { delay += levelRandom.within(100...900) }
            queue.add(.request(question), at: now + delay)
        }
    }

    /// What the register names, as the arbiter says.
    func take(_ register: Register?, toLease question: UInt64, _ host: Host) {
        guard let register else { return }
        guard register.owner == host.name else {
            let isNews = host.lease.term.map { $0 < register.term } ?? false
            tellLease(.denied(register.term), host)
            guard isNews else { return }
            if host.primary != nil { return tellPrimary(host) { $0.handle(.peerRegister(register)) } }
            return tellStandby(host) { $0.lose(to: register) }
        }
        confirm(question, register.term, host)
    }

    func confirm(_ question: UInt64, _ term: Term, _ host: Host) {
        if mutant == .leaseFromAnswer, host.lease.term == term {
            draw(.renew, until: reading(host) + LevelPlan.timing.length, attempts: 3, host)
        }
        tellLease(.confirmed(question: mutant == .countsAnyAnswer ? host.newestQuestion : question, term), host)
    }

    // MARK: - The kernel's gate

    /// The clock is read after a ticket was drawn, and the request follows.
    private func draw(_ request: SimKernelGate.Request, until: UInt64, attempts: Int, _ host: Host) {
        guard let guest = host.guest, guest.isAlive, guest.kernelGate != nil || host.isGuarding else { return }
        if guest.kernelGate == nil { host.guest?.kernelGate = SimKernelGate(tick: plan.levels.tick) }
        let reading = reading(host)
        host.guest?.kernelGate?.drawTicket(reading)
        guard until > reading else { return }
        var milliseconds = (until - reading) / 1_000_000
        if mutant == .gateShutsLate { milliseconds += 300 }
        if mutant == .turnedGateStaysOpen, host.sealed > Epoch(1) { milliseconds += 1000 }
        let delay = isHealing ? 1 : levelRandom.within(1...plan.levels.hesitation)
        let work = AgentWork.gate(request, guest: guest.id, until: until, milliseconds, attempts: attempts)
        queue.add(.agent(host.index, life: host.life, work), at: now + delay)
    }

    func request(
        _ request: SimKernelGate.Request, guest: Int, until: UInt64, _ milliseconds: UInt64, attempts: Int, _ host: Host
    ) {
        guard host.guest?.id == guest, var gate = host.guest?.kernelGate else { return }
        let answer = gate.carryOut(
            request, milliseconds: milliseconds, reading(host), mutant: mutant == .requestsLate ? .withoutTicket : nil)
        host.guest?.kernelGate = gate
        switch answer {
        case .done: noteGuarded(host)
        case .late where attempts > 1 && until > reading(host):
            draw(request, until: until, attempts: attempts - 1, host)
        case .hadShut, .late: tellLease(.hadShut, host)
        }
    }

    /// True when what the guest sends passes the kernel, where a gate stands.
    func passesGate(_ host: Host) -> Bool { host.guest?.kernelGate?.isOpen(reading(host)) ?? true }

    /// I26: what starts here starts when nothing passes the other host's gate.
    func judgeStart(_ host: Host) {
        let peer = hosts[host.other]
        guard let guest = peer.guest, guest.isAlive, guest.gate != .closed, guest.kernelGate != nil, passesGate(peer)
        else { return }
        verdict.fail("I26", "the guest starts at \(host.name) while its gate at \(peer.name) is open")
    }
}
