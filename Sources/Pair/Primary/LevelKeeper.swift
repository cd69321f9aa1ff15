import Model
import Protocol

/// Keeps a guest at the level that can be kept: what was asked for while it is degraded, why it is, and where it is to rest
/// meanwhile.
package struct LevelKeeper: Sendable {
    package private(set) var machine: DegradeMachine
    /// What it climbs back to; nil while it is not degraded.
    package private(set) var asked: Level?
    private var reason = ""
    /// Why this guest cannot fall; nil where it can.
    private var obstacle: String?
    /// Why this guest cannot rest where the operator wants it to.
    private var restObstacle: String?
    /// Why it did not get there after the last fall.
    private var missed: String?

    /// `asked`: an earlier run of the agent left it below that level.
    package init(_ settings: DegradeMachine.Settings, asked: Level? = nil, at now: UInt64 = 0) {
        machine = DegradeMachine(settings)
        guard let asked, settings.floor != nil else { return }
        self.asked = asked
        reason = "it could not be held there before"
        machine.find(at: now)
    }

    private static let landing = DegradeMachine.Settings.landing

    /// Why this guest cannot be had at these levels, as far as is known. Returns what the operator should hear of it.
    package mutating func learn(_ obstacles: [Level: String]) -> String? {
        guard let floor = machine.settings.floor else { return nil }
        (obstacle, restObstacle) = (obstacles[Self.landing], obstacles[floor])
        if let obstacle { return "it does not fall to a lower level by itself: \(obstacle)" }
        return restObstacle.map {
            "should it fall, then to level \(Self.landing.rawValue), not to \(floor.rawValue): \($0)"
        }
    }

    /// It can fall.
    var falls: Bool { obstacle == nil && machine.settings.floor != nil }
    /// Where it rests, as far as is known.
    private var rest: Level? { falls && restObstacle == nil ? machine.settings.floor : nil }

    mutating func look(_ sight: DegradeMachine.Sight, at now: UInt64) -> DegradeMachine.Move? {
        falls ? machine.look(sight, at: now) : nil
    }

    /// The level that a fall leads to. From below `system` it goes no further down: what was attached there still is. Where the
    /// guest lives by that it does not go below it.
    func landing(from dial: DialMachine?) -> DialMachine.Bound {
        var level = Self.landing
        if let inForce = dial?.inForce, !inForce.holdsOutput { level = inForce }
        if let rest, dial?.isHeldBack(from: level) == true { level = rest }
        return DialMachine.Bound(level, reason)
    }

    /// Where it rests, when that is above this level.
    func rest(above level: Level?) -> DialMachine.Bound? {
        guard let rest, level == Self.landing, rest != level else { return nil }
        return DialMachine.Bound(rest, reason)
    }

    mutating func rest(at now: UInt64) { machine.rest(at: now) }

    mutating func fell(from level: Level, _ reason: String) {
        asked = asked ?? level
        (self.reason, missed) = (reason, nil)
    }

    /// The operator says what is wanted.
    mutating func reset() {
        (asked, missed) = (nil, nil)
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
    /// - Parameter why: why not higher, as the dial says.
    mutating func stood(at level: Level, asked wanted: Level?, _ why: String?, at now: UInt64) -> SessionReport {
        let before = machine.state
        machine.stood(isAsked: level == wanted, at: now)
        let words = "it is protected at level \(level.rawValue) from here on"
        switch (before, machine.state) {
        case (.falling, .fallen), (.climbing, .fallen):
            let wanted = wanted.map { " instead of \($0.rawValue)" } ?? ""
            return .event(.degraded, "\(words)\(wanted): \(reason)\(noRest(level))\(climb(at: now))")
        case (.settling, .fallen):
            guard rest(above: level) != nil else { return .event(.dialled, words) }
            missed = why ?? "no reason given"
            return .event(.state, "it stays at level \(level.rawValue)\(noRest(level))")
        case (.climbing, .holding):
            (asked, missed) = (nil, nil)
            return .event(.climbed, "\(words) again")
        case (.falling, .holding):
            asked = nil
            return .event(.dialled, words)
        default: return .event(.dialled, words)
        }
    }

    /// Why it is below what was asked for, for the status.
    package func sentence(of duty: PrimaryDuty, at now: UInt64) -> String? {
        let (level, why) = (duty.machine.level, duty.dial?.reason)
        guard asked != nil else { return why }
        let isOfFall = why == nil || why == missed
        return "degraded: \(isOfFall ? reason : why ?? reason)\(noRest(level))\(climb(at: now))"
    }

    private func noRest(_ level: Level) -> String {
        guard level == Self.landing, let floor = machine.settings.floor, let why = missed ?? restObstacle
        else { return "" }
        return "; level \(floor.rawValue) cannot be had: \(why)"
    }

    private func climb(at now: UInt64) -> String {
        switch machine.state {
        case .fallen(let climbs) where climbs > now, .settling(let climbs) where climbs > now:
            "; climbs back in \((climbs - now + 999_999_999) / 1_000_000_000) s"
        case .fallen, .settling: "; climbs back as soon as all is calm"
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
        sight.isHeldBack = dial?.isHeldBack(from: dial?.asked) ?? false
        sight.restsHigher = keeper.rest(above: dial?.inForce) != nil
        let level = dial?.asked ?? machine.level
        switch keeper.look(sight, at: now) {
        case .fall(let why):
            keeper.fell(from: level, why)
            let landing = keeper.landing(from: dial)
            let text = "level \(level.rawValue) cannot be held: \(why); it falls to level \(landing.level.rawValue)"
            return [.report(.event(.state, text))] + tell(.bounded(landing))
        case .giveUp(let why):
            keeper.fell(from: level, why)
            let text = "\(names.vm) goes on without its standby, which is too slow even for the way down: \(why)"
            return [.report(.event(.degraded, text))] + loseStandby("it is too slow: \(why)")
        case .settle:
            guard let rest = keeper.rest(above: dial?.inForce) else { return [] }
            return [.report(.event(.state, "it goes on to level \(rest.level.rawValue)"))] + tell(.bounded(rest))
        case .climb:
            return [.report(.event(.state, "it is tried whether level \(level.rawValue) can be held again"))]
                + tell(.bounded(nil))
        case nil: return []
        }
    }

    /// A guest that had to go on without its standby is paired again at the level that a fall leads to, and goes on from there.
    mutating func lowersAlone(_ outputs: inout [Output]) -> Bool {
        guard case .solo = machine.state, keeper.asked != nil, keeper.falls, machine.level.holdsOutput,
            !machine.isTurning
        else { return false }
        feed(.setLevel(DegradeMachine.Settings.landing), &outputs)
        return true
    }
}
