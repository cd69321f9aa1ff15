import Model
import Protocol

/// Keeps a guest at the level that can be kept: what was asked for while it is degraded, and why it is.
package struct LevelKeeper: Sendable {
    package private(set) var machine: DegradeMachine
    /// What it climbs back to; nil while it is not degraded.
    package private(set) var asked: Level?
    private var reason = ""
    /// Why this guest cannot be had at the level that it would fall to.
    package var obstacle: String?

    /// `asked`: an earlier run of the agent left it below that level.
    package init(_ settings: DegradeMachine.Settings, asked: Level? = nil, at now: UInt64 = 0) {
        machine = DegradeMachine(settings)
        guard let asked, settings.floor != nil else { return }
        self.asked = asked
        reason = "it could not be held there before"
        machine.find(at: now)
    }

    var floor: Level? { obstacle == nil ? machine.settings.floor : nil }

    mutating func look(_ sight: DegradeMachine.Sight, at now: UInt64) -> DegradeMachine.Move? {
        floor == nil ? nil : machine.look(sight, at: now)
    }

    mutating func rest(at now: UInt64) { machine.rest(at: now) }

    mutating func fell(from level: Level, _ reason: String) {
        asked = asked ?? level
        self.reason = reason
    }

    /// The operator says what is wanted.
    mutating func reset() {
        asked = nil
        machine.reset()
    }

    /// The dial of a guest that was paired at `level` just now.
    mutating func dial(at level: Level, missing: Set<DialMachine.Part>) -> DialMachine {
        guard let asked, asked != level else {
            reset()
            return DialMachine(at: level, missing: missing)
        }
        return DialMachine(at: level, asked: asked, DialMachine.Bound(level, reason), missing: missing)
    }

    /// The dial stands: what is told of it.
    mutating func stood(at level: Level, asked wanted: Level?, at now: UInt64) -> SessionReport {
        let before = machine.state
        machine.stood(isAsked: level == wanted, at: now)
        let words = "it is protected at level \(level.rawValue) from here on"
        switch (before, machine.state) {
        case (.falling, .fallen), (.climbing, .fallen):
            let level = wanted.map { " instead of \($0.rawValue)" } ?? ""
            return .event(.degraded, "\(words)\(level): \(reason)\(climb(at: now))")
        case (.climbing, .holding):
            asked = nil
            return .event(.climbed, "\(words) again")
        case (.falling, .holding):
            asked = nil
            return .event(.dialled, words)
        default: return .event(.dialled, words)
        }
    }

    /// Why it is below what was asked for, for the status.
    package func sentence(_ why: String?, at now: UInt64) -> String? {
        guard asked != nil else { return why }
        return "degraded: \(why ?? reason)\(climb(at: now))"
    }

    private func climb(at now: UInt64) -> String {
        switch machine.state {
        case .fallen(let climbs) where climbs > now:
            "; climbs back in \((climbs - now + 999_999_999) / 1_000_000_000) s"
        case .fallen: "; climbs back as soon as all is calm"
        default: ""
        }
    }
}

extension PrimaryDuty {
    /// The guest's frames may travel through the standby's host: its level says so, and is not being changed.
    package var mayCarry: Bool { dial?.inForce == .component && dial?.target == .component && dial?.step == nil }

    /// To be called now and then: whether the level that was asked for is held, and what follows.
    package mutating func keepLevel(_ seen: DegradeMachine.Sight, at now: UInt64) -> [Output] {
        var sight = seen
        switch machine.state {
        case .paired:
            sight.isPaired = dial != nil
            sight.mayGiveUp = dial?.step == .attaching(.hold) || dial?.step == .detaching(.hold)
        case .pairing: break
        default:
            keeper.rest(at: now)
            return []
        }
        guard connection.linkDown == nil, !machine.rule.isManual else { return [] }
        time = now
        (sight.sealed, sight.acknowledged) = (sealed, machine.acknowledged)
        let isBusy = isGuestPaused || machine.isDismissing || machine.isSwitchingOver || dial?.step != nil
        sight.isCalm = seen.isCalm && !isBusy
        let level = dial?.asked ?? machine.level
        switch keeper.look(sight, at: now) {
        case .fall(let why):
            guard let floor = keeper.floor else { return [] }
            keeper.fell(from: level, why)
            let text = "level \(level.rawValue) cannot be held: \(why); it falls to level \(floor.rawValue)"
            return [.report(.event(.state, text))] + tell(.bounded(DialMachine.Bound(floor, why)))
        case .giveUp(let why):
            keeper.fell(from: level, why)
            let text = "\(names.vm) goes on without its standby, which is too slow even for the way down: \(why)"
            return [.report(.event(.degraded, text))] + loseStandby("it is too slow: \(why)")
        case .climb:
            return [.report(.event(.state, "it is tried whether level \(level.rawValue) can be held again"))]
                + tell(.bounded(nil))
        case nil: return []
        }
    }

    /// A guest that had to go on without its standby is paired again at the level that can be kept, and climbs from there.
    mutating func lowersAlone(_ outputs: inout [Output]) -> Bool {
        guard case .solo = machine.state, keeper.asked != nil, let floor = keeper.floor, machine.level.holdsOutput,
            !machine.isTurning
        else { return false }
        feed(.setLevel(floor), &outputs)
        return true
    }
}
