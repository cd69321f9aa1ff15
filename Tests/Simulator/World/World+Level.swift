import Model
import Pair
import Protocol

/// The parts of a level, as they are attached to a guest and detached from it.
extension World {
    func attach(_ part: DialMachine.Part, _ host: Host) {
        let session = host.session
        switch part {
        case .gate:
            host.isGuarding = true
            let isFalling = if case .falling? = host.primary?.keeper.machine.state { true } else { false }
            let isTakenForOld = mutant == .takesOldGateForNew && host.hadGate
            if mutant == .releasesBeforeGate || (mutant == .fallsBeforeGate && isFalling) || isTakenForOld {
                host.isGuarding = false
                later(host, 1, .partAttached(session, .gate))
            }
        case .hold:
            let isClimbing = host.primary?.keeper.machine.state == .climbing
            let isEarly = mutant == .turnsBeforeHold || (mutant == .climbsWithoutHold && isClimbing)
            let work = isEarly ? AgentWork.partAttached(session, .hold) : .beginHolding(session)
            later(host, plan.epoch, work)
        case .disks, .served, .detour, .memory:
            if mutant == .settlesUngated, case .settling? = host.primary?.keeper.machine.state {
                host.guest?.kernelGate = nil
            }
            guard isHealing || !levelRandom.chance(perMille: plan.levels.failures) else {
                return later(host, 5, .partFails(session, part))
            }
            switch part {
            case .memory: later(host, plan.copyStep, .memoryStep(session, 0))
            case .served: later(host, 5, .serve(session))
            case .detour: later(host, 5, .attachDetour(session))
            default: later(host, 5, .partAttached(session, part))
            }
        }
    }

    func detach(_ part: DialMachine.Part, _ host: Host) {
        switch part {
        case .gate:
            host.guest?.kernelGate = nil
            (host.isGuarding, host.hadGate) = (false, true)
            later(host, 1, .partDetached(host.session, .gate))
        case .hold: later(host, 1, .endHolding(host.session))
        case .served: later(host, 3, .serveNoMore(host.session))
        case .detour: later(host, 3, .detachDetour(host.session))
        case .disks, .memory: later(host, 3, .partDetached(host.session, part))
        }
    }

    /// Everything is taken out, and writes are done when they are done here.
    func detachEverything(_ host: Host) {
        guard leaveServer(host) else { return }
        host.carry = nil
        if mutant != .forgetsCarriedTap { host.guest?.tapIsCarried = false }
        if host.guest?.gate != .closed { host.guest?.gate = .detached }
        host.guest?.kernelGate = nil
        (host.isGuarding, host.isByEpochs) = (false, false)
        (host.holdsFrom, host.freesAfter) = (nil, nil)
        host.guest?.disk = .alone
        finishWrite(host)
    }

    func tellPart(_ session: SessionID, _ host: Host, _ happened: (inout PrimaryDuty) -> [PrimaryDuty.Output]) {
        guard host.session == session, host.primary?.dial != nil || host.primary?.machine.session != nil else { return }
        tellPrimary(host, happened)
    }

    func noteGuarded(_ host: Host) {
        guard host.isGuarding else { return }
        host.isGuarding = false
        tellPrimary(host) { $0.hear(.attached(.gate)) }
    }

    // MARK: - Falling and climbing

    func keepLevel(_ host: Host) {
        later(host, Self.keepPeriod, .keepLevel)
        guard host.primary != nil else { return }
        var sight = DegradeMachine.Sight()
        sight.isCalm = true
        // The operator's target is missed now and then, at whatever moment of the rest that is.
        sight.missesTarget = now / 100 % 9 == 7
        let time = nanoseconds
        tellPrimary(host) { $0.keepLevel(sight, at: time) }
        host.hasFallen = host.primary?.keeper.asked != nil
    }

    private static let keepPeriod = 20

    // MARK: - Memory and epochs

    func copyMemory(_ step: Int, of session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive else { return }
        let changes = takeCopy(step, of: guest, host)
        send(.memory(session, changes), on: host.link, from: host)
        if step == 2 {
            tellPrimary(host) { $0.hear(.attached(.memory)) }
        } else {
            later(host, plan.copyStep, .memoryStep(session, step + 1))
        }
    }

    /// A third of the guest's memory.
    func takeCopy(_ step: Int, of guest: Guest, _ host: Host) -> [Change] {
        let per = Guest.groups / 3
        return (step * per..<(step + 1) * per).map { group in
            host.guest?.dirty &= ~(1 << UInt64(group))
            return Change(group: group, version: guest.memory[group])
        }
    }

    /// The first epoch whose output is held: the guest stands still, and no write of its is under way.
    func beginHolding(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive,
            host.primary?.dial?.step == .attaching(.hold)
        else { return }
        guard guest.isRunning, guest.pending == nil else { return later(host, 2, .beginHolding(session)) }
        host.guest?.gate = .holding
        host.guest?.gateLife = host.life
        host.isByEpochs = true
        host.guest?.disk = .staged
        host.holdsFrom = host.sealed.next
        later(host, plan.epoch, .cutEpoch(session))
        seal(session, isLast: false, host)
    }

    /// The last epoch: what is written after it is written at both hosts at once, and what is sent after it flows once the
    /// standby has it.
    func endHolding(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), let guest = host.guest, guest.isAlive, let machine = host.primary?.machine
        else { return }
        guard guest.isRunning, isDrained(guest), host.sealed.number < machine.acknowledged.number + 3 else {
            return later(host, 2, .endHolding(session))
        }
        host.freesAfter = host.sealed.next
        let life = host.life
        seal(session, isLast: false, host)
        guard host.life == life, host.isByEpochs else { return }
        host.isByEpochs = false
        host.guest?.disk = .both
        if mutant == .releasesBeforeLastEpoch { flow(host) }
    }

    private func flow(_ host: Host) {
        host.freesAfter = nil
        if host.guest?.gate != .closed { host.guest?.gate = .detached }
        letOutAllFreely(host)
        guard verdict.violation == nil else { return }
        tellPrimary(host) { $0.hear(.detached(.hold)) }
    }

    /// An acknowledgement came.
    func noteAcknowledged(_ host: Host) {
        guard let acknowledged = host.primary?.machine.session?.acknowledged else { return }
        if let epoch = host.holdsFrom, acknowledged >= epoch {
            host.holdsFrom = nil
            tellPrimary(host) { $0.hear(.attached(.hold)) }
        }
        if let epoch = host.freesAfter, acknowledged >= epoch { flow(host) }
    }

    // MARK: - What is true

    /// The level in force is the one that the register names, once that is known, and what it needs is attached (I36).
    func checkLevel(_ host: Host) {
        guard case .paired = host.primaryState, let duty = host.primary, let dial = duty.dial, !duty.machine.isTurning,
            let register = arbiter.register, register.owner == host.name, register.term == duty.machine.register?.term
        else { return }
        if host.guest?.tapIsCarried == true, register.level != .component {
            verdict.fail("I39", "a NIC is carried at level \(register.level)")
        }
        if dial.inForce != register.level {
            let taken = describe(dial.inForce)
            verdict.fail("I36", "level \(register.level) is in force, \(host.name) takes it for \(taken)")
        }
        // What carries disks and NICs silences nobody where it is missing: it is attached once the guest is paired, or the level
        // falls when it can.
        if !dial.attached.isSuperset(of: register.level.parts.subtracting([.served, .detour])) {
            verdict.fail("I36", "at level \(register.level) a part is missing at \(host.name): \(dial.attached)")
        }
    }

    private func describe(_ level: Level?) -> String { level?.rawValue ?? "none" }
}
