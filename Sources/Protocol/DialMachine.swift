import Model

/// Which steps lead a guest that runs from one level to another, and back where a step fails.
///
/// A level is a set of parts that are attached to the guest (`Level.parts`). What the next level needs is attached first,
/// one part at a time; then the register is turned to it; then what it has no use for is detached. So at any moment what is
/// attached suffices for the level that the register names, and, as long as the answer is open, for both that it may name (I36).
/// A step that fails before the turn leads back by the same rule. There is no clock in it; `docs/DIAL.md` has the table.
///
/// At `system` nothing is carried in this version, so the part `detour` is that of `component` alone.
public struct DialMachine: Sendable, Hashable {
    /// What is attached to a guest for a level, in the order in which it is attached. It is detached the other way round.
    public enum Part: String, Sendable, Hashable, CaseIterable {
        /// Both hosts have the disks, and each write goes to both.
        case disks
        /// Each disk is a process of its own, which goes on with the other host's copy when the one here fails.
        case served
        /// The kernel's gate stands before the NICs, and a lease keeps it open.
        case gate
        /// The NICs' frames can be led through the other host.
        case detour
        /// The standby has the guest's memory, and its QEMU waits for an epoch.
        case memory
        /// Output waits for the acknowledgement of its epoch, and the standby stages by epochs.
        case hold
    }

    public enum Event: Sendable, Equatable {
        /// The operator wants that level; nil for none.
        case ask(Level?)
        /// No level above this one can be held; nil when that is over. The operator's next wish ends it, too.
        case bounded(Bound?)
        /// What failed may work by now.
        case tryAgain
        /// The step that was asked for is done, or why not.
        case attached(Part)
        case attachFailed(Part, String)
        case detached(Part)
        case detachFailed(Part, String)
        /// The register names the level now, or it is certain that it does not and will not.
        case turned
        case turnRefused(String)
        /// It is no more, by no step of ours. `gate` and `hold` cannot be lost: when they fail, nothing leaves.
        case lost(Part, String)
        /// The guest lives by this part now (a disk is lost here, a NIC is led through the other host), so it cannot be detached;
        /// nil when it no longer does.
        case livesBy(Part, String?)
    }

    /// The highest level that can be held, and why not a higher one.
    public struct Bound: Sendable, Hashable {
        public var level: Level
        public var reason: String

        public init(_ level: Level, _ reason: String) {
            self.level = level
            self.reason = reason
        }
    }

    /// One step at a time: the next follows its end.
    public enum Action: Sendable, Equatable {
        case attach(Part)
        case detach(Part)
        /// A compare-and-set of the register. It is `turned` or `turnRefused` only once that is certain.
        case turn(Level?)
        /// The change is over: the level in force.
        case stands(Level?)
        /// One sentence for the operator and the journal.
        case report(String)
    }

    /// What is under way.
    public enum Step: Sendable, Hashable {
        case attaching(Part)
        case turning(Level?)
        case detaching(Part)
    }

    /// What the operator wants.
    public private(set) var asked: Level?
    /// What the register names, as far as is known.
    public private(set) var inForce: Level?
    /// Why the two differ; nil when they do not, and while the change is under way.
    public private(set) var reason: String?
    public private(set) var attached: Set<Part>
    public private(set) var step: Step?
    /// Where the steps lead at present: `asked`, or what can be had of it.
    public private(set) var target: Level?
    public private(set) var bound: Bound?
    /// Why each of these cannot be detached.
    private var livedBy: [Part: String] = [:]
    /// A failed step is not tried again before `tryAgain`.
    private var isWaiting = false
    /// The end of the change was told.
    private var isTold = true

    /// For a guest whose register names `level` and to which its parts are attached, but for those that are `missing`: what is
    /// attached only once it is paired. `tryAgain` follows then.
    public init(at level: Level? = nil, missing: Set<Part> = []) {
        asked = level
        inForce = level
        target = level
        attached = level.parts.subtracting(missing)
        isWaiting = attached != level.parts
    }

    /// The same, of a guest of which more is asked than can be held.
    public init(at level: Level, asked: Level, _ bound: Bound, missing: Set<Part> = []) {
        self.init(at: level, missing: missing)
        self.asked = asked
        self.bound = bound
        reason = bound.reason
    }

    public mutating func handle(_ event: Event) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .ask(let level):
            (asked, bound) = (level, nil)
            headFor(level, &actions)
        case .bounded(let bound):
            self.bound = bound
            headFor(asked, &actions)
        case .tryAgain:
            guard isWaiting || target != bounded(asked) else { return [] }
            headFor(asked, &actions)
        case .attached(let part):
            guard end(.attaching(part)) else { return [] }
            attached.insert(part)
        case .attachFailed(let part, let why):
            guard end(.attaching(part)) else {
                // At the begin of a session it counts as attached, as the register says so.
                guard part == .detour, attached.contains(part) else { return [] }
                lose(part, why, &actions)
                break
            }
            miss(part, "\(part.rawValue) cannot be attached: \(why)", &actions)
        case .detached(let part):
            guard end(.detaching(part)) else { return [] }
            attached.remove(part)
        case .detachFailed(let part, let why):
            guard end(.detaching(part)) else { return [] }
            isWaiting = true
            tell("\(part.rawValue) cannot be detached: \(why)", &actions)
        case .turned:
            guard case .turning(let level)? = step else { return [] }
            step = nil
            inForce = level
        case .turnRefused(let why):
            guard case .turning(let level)? = step else { return [] }
            step = nil
            if target == level { keepLevel() }
            tell("the register was not turned to \(level.word): \(why)", &actions)
        case .lost(let part, let why): lose(part, why, &actions)
        case .livesBy(let part, let why): livedBy[part] = attached.contains(part) ? why : nil
        }
        goOn(&actions)
        return actions
    }

    private mutating func end(_ step: Step) -> Bool {
        guard self.step == step else { return false }
        self.step = nil
        return true
    }

    private mutating func tell(_ why: String, _ actions: inout [Action]) {
        reason = why
        actions.append(.report(why))
    }

    private mutating func headFor(_ level: Level?, _ actions: inout [Action]) {
        isWaiting = false
        isTold = false
        reason = nil
        target = bounded(level)
    }

    private func bounded(_ level: Level?) -> Level? {
        guard let bound, let level, bound.level.isBelow(level) else { return level }
        return bound.level
    }

    /// That part is being attached, and by now the steps lead to a level that needs it not.
    public func isNotWanted(_ part: Part) -> Bool { step == .attaching(part) && !target.parts.contains(part) }

    /// The guest lives by something that it would lose at that level.
    public func isHeldBack(from level: Level?) -> Bool { obstacle(level) != nil }

    /// What the guest lives by and would lose at that level.
    private func obstacle(_ level: Level?) -> (Part, String)? {
        for part in Part.allCases where !level.parts.contains(part) {
            if let why = livedBy[part] { return (part, why) }
        }
        return nil
    }

    private mutating func lose(_ part: Part, _ why: String, _ actions: inout [Action]) {
        guard part != .gate, part != .hold, attached.remove(part) != nil else { return }
        livedBy[part] = nil
        isTold = false
        if step == .detaching(part) { step = nil }
        miss(part, "\(part.rawValue) is lost: \(why)", &actions)
    }

    /// A part cannot be had. Where the level that is headed for needs it, the one in force is kept, or the next lower one that
    /// needs it not is fallen back to.
    private mutating func miss(_ part: Part, _ why: String, _ actions: inout [Action]) {
        guard target.parts.contains(part) else { return }
        tell(why, &actions)
        if inForce.parts.contains(part),
            let lower = Level.allCases.last(where: { $0.isBelow(inForce) && !$0.parts.contains(part) })
        {
            target = lower
            isWaiting = false
        } else {
            keepLevel()
        }
    }

    /// There is no better level than the one in force. What it lacks is attached at the next try.
    private mutating func keepLevel() {
        target = inForce
        isWaiting = !inForce.parts.isSubset(of: attached)
    }

    /// The next step, when none is under way.
    private mutating func goOn(_ actions: inout [Action]) {
        guard step == nil, !isWaiting else { return }
        let missing = Part.allCases.first { target.parts.contains($0) && !attached.contains($0) }
        let surplus = Part.allCases.last {
            attached.contains($0) && !target.parts.contains($0) && livedBy[$0] == nil
        }
        if target != inForce, let (part, why) = obstacle(target) {
            // Before anything is attached for it.
            keepLevel()
            tell("the level stays \(inForce.word): \(part.rawValue) is in use, \(why)", &actions)
            return goOn(&actions)
        }
        if let missing {
            step = .attaching(missing)
            actions.append(.attach(missing))
        } else if target != inForce {
            step = .turning(target)
            actions.append(.turn(target))
        } else if let surplus {
            step = .detaching(surplus)
            actions.append(.detach(surplus))
        } else if !isTold {
            isTold = true
            if asked == inForce { reason = nil } else if inForce == target { reason = reason ?? bound?.reason }
            actions.append(.stands(inForce))
        }
    }
}

extension Level {
    /// What is attached to a guest at this level. Output flows at the two lower ones, so a gate stands before it; at `system` it
    /// waits for acknowledgements and needs none.
    public var parts: Set<DialMachine.Part> {
        switch self {
        case .restart: [.disks, .gate]
        case .component: [.disks, .served, .gate, .detour]
        case .system: [.disks, .memory, .hold]
        }
    }

    fileprivate func isBelow(_ other: Level?) -> Bool {
        guard let other, let own = Self.allCases.firstIndex(of: self), let its = Self.allCases.firstIndex(of: other)
        else { return false }
        return own < its
    }
}

extension Level? {
    /// Of a guest that is not protected: none.
    public var parts: Set<DialMachine.Part> { self?.parts ?? [] }

    fileprivate var word: String { self?.rawValue ?? "none" }
}
