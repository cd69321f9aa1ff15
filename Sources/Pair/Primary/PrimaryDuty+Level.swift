import Model
import Protocol

/// The level: what is attached to the guest for it, and the lease under which output leaves that is not held.
extension PrimaryDuty {
    /// The operator turns the dial.
    package mutating func turn(to level: Level) -> [Output] {
        keeper.reset()
        // Alone, a guest has nothing attached: the register is all that there is to turn.
        guard dial != nil, !machine.rule.isManual else { return handle(.setLevel(level)) }
        return tell(.ask(level))
    }

    /// What became of a part that was to be attached or detached, or that what failed may work by now.
    package mutating func hear(_ event: DialMachine.Event) -> [Output] {
        var outputs: [Output] = []
        if case .attached(.gate) = event { feed(.guarded(connection.session), &outputs) }
        return outputs + tell(event)
    }

    // MARK: - What follows from the register

    /// After each step of the machine.
    mutating func followRegister(_ outputs: inout [Output]) {
        followTerm(&outputs)
        guard machine.session != nil else {
            dial = nil
            return
        }
        if dial == nil, case .paired = machine.state {
            // What is attached only to a guest that is paired: by then both hosts have its disks.
            dial = keeper.dial(at: machine.level, missing: [.served, .detour])
            tell(.tryAgain, &outputs)
        }
        // As long as the answer is open, what is attached stays (I36).
        guard case .turning(let level)? = dial?.step, !machine.isTurning else { return }
        let isTurned = machine.level == level
        tell(isTurned ? .turned : .turnRefused("another change is under way"), &outputs)
    }

    mutating func tell(_ event: DialMachine.Event) -> [Output] {
        var outputs: [Output] = []
        tell(event, &outputs)
        return outputs
    }

    private mutating func tell(_ event: DialMachine.Event, _ outputs: inout [Output]) {
        for action in dial?.handle(event) ?? [] {
            switch action {
            case .attach(let part): attach(part, &outputs)
            case .detach(let part):
                outputs.append(.detach(part))
                if part == .gate { outputs += lease.end() }
            case .turn(let level): if let level { feed(.setLevel(level), &outputs) }
            case .stands(let level):
                guard let level else { break }
                outputs.append(.report(keeper.stood(at: level, asked: dial?.asked, dial?.reason, at: time)))
            case .report(let text):
                lastError = text
                outputs.append(.report(.event(.state, text)))
            }
        }
    }

    // MARK: - The gate

    mutating func attach(_ part: DialMachine.Part, _ outputs: inout [Output]) {
        outputs.append(.attach(part))
        guard part == .gate else { return }
        lease.begin()
        followTerm(&outputs)
    }

    /// A lease is of the term under which this host owns the register.
    private mutating func followTerm(_ outputs: inout [Output]) { outputs += lease.follow(machine.ownTerm) }

    /// What a gate stands before is kept back by shutting it.
    mutating func hold(_ outputs: inout [Output]) { outputs += [.hold] + lease.end() }
}
