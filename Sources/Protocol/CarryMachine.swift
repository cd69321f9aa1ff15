import Model

/// Whether the frames of one NIC take the way through the other host: the decisions, from what both hosts see of their uplinks.
///
/// The guest is attached to one network at any time. On the way out its own bridge loses it (`lead`), then the other host's port
/// enters its bridge; on the way home that port leaves (`callBack`), and once it has, the own bridge gets the guest back (`release`).
/// There is no clock in it; all times are nanoseconds of one monotonic clock. `docs/CARRY.md` has the table.
public struct CarryMachine: Sendable, Hashable {
    /// What the own host lacks.
    public enum Cause: Sendable, Hashable, CaseIterable {
        case noUplink, noCarrier, segmented
    }

    public enum State: Sendable, Hashable {
        case home
        /// The own bridge has lost it; the other host was asked.
        case leaving(Cause, since: UInt64)
        case carried(Cause)
        /// The other host's port is to leave.
        case returning
    }

    public enum Event: Sendable, Hashable {
        /// What is seen here, and what the other host said last; nil before it said anything. `mayLeave`: the level allows it, and
        /// is not being changed.
        case looked(own: UplinkSight, other: UplinkSight?, mayLeave: Bool)
        /// The other host did what it was asked for last: its port entered, or left.
        case done
        /// It did not, or the own bridge could not be taken away from the guest.
        case failed
    }

    public enum Action: Sendable, Hashable {
        /// Take the guest away from its own bridge, and ask the other host to let its port enter.
        case lead(Cause)
        /// The guest's frames travel from here on.
        case arrived(Cause)
        /// Ask the other host to let its port leave.
        case callBack
        /// Give the guest back to its own bridge, and tell the network.
        case release
    }

    /// How long a fault lasts before it is acted on.
    public static let debounce: UInt64 = 40_000_000
    /// How long the own uplink is well before the guest comes home, at least and at most.
    public static let settleMin: UInt64 = 5_000_000_000
    public static let settleMax: UInt64 = 80_000_000_000
    /// A fault within this time after a return doubles that.
    public static let memory: UInt64 = 600_000_000_000
    /// So many missed probes in a row make a segmented network: those of the window in which senders are counted, and one more.
    public static let missedMin: UInt32 = 9
    /// The other host answers within this.
    public static let answerMax: UInt64 = 2_000_000_000
    /// What failed is not tried again before.
    public static let retry: UInt64 = 5_000_000_000

    public private(set) var state = State.home
    /// How long the own uplink is to be well before the guest comes home.
    public private(set) var settle = CarryMachine.settleMin
    private var reason: Reason?
    /// When there was reason to leave, or to come home, for long enough; nil without one.
    public private(set) var due: UInt64?
    private var cameHomeAt: UInt64?
    private var notBefore: UInt64 = 0

    /// Why the state is to be left.
    private enum Reason: Hashable {
        case leave(Cause)
        case comeHome(after: UInt64)

        /// How long it lasts before it is acted on.
        var duration: UInt64 {
            switch self {
            case .leave(.segmented): 0
            case .leave: CarryMachine.debounce
            case .comeHome(let patience): patience
            }
        }
    }

    public init() {}

    public mutating func handle(_ event: Event, at now: UInt64) -> [Action] {
        switch (event, state) {
        case (.looked(let own, let other, let mayLeave), _): look(own, other, mayLeave, now)
        case (.done, .leaving(let cause, _)):
            enter(.carried(cause), [.arrived(cause)])
        // Its port left, or did not enter.
        case (.done, .returning), (.failed, .returning), (.failed, .leaving): comeHome(now)
        case (.done, _), (.failed, _): []
        }
    }

    private mutating func look(
        _ own: UplinkSight, _ other: UplinkSight?, _ mayLeave: Bool, _ now: UInt64
    ) -> [Action] {
        switch state {
        case .home:
            let cause = mayLeave ? Self.cause(own, other) : nil
            guard let cause, lasts(.leave(cause), now), now >= notBefore else {
                if cause == nil { note(nil, now) }
                return []
            }
            let isFlapping = cameHomeAt.map { now < $0 + Self.memory } ?? false
            settle = isFlapping ? min(settle * 2, Self.settleMax) : Self.settleMin
            return enter(.leaving(cause, since: now), [.lead(cause)])
        case .leaving(_, let asked):
            return now > asked + Self.answerMax ? enter(.returning, [.callBack]) : []
        case .carried:
            guard let patience = patience(own, other) else {
                note(nil, now)
                return []
            }
            return lasts(.comeHome(after: patience), now) ? enter(.returning, [.callBack]) : []
        case .returning: return []
        }
    }

    private mutating func enter(_ next: State, _ actions: [Action]) -> [Action] {
        state = next
        note(nil, 0)
        return actions
    }

    private mutating func comeHome(_ now: UInt64) -> [Action] {
        if case .leaving = state { notBefore = now + Self.retry } else { cameHomeAt = now }
        return enter(.home, [.release])
    }

    private mutating func note(_ next: Reason?, _ now: UInt64) {
        guard next != reason else { return }
        (reason, due) = (next, next.map { now + $0.duration })
    }

    private mutating func lasts(_ next: Reason, _ now: UInt64) -> Bool {
        note(next, now)
        return due.map { now >= $0 } ?? false
    }

    // MARK: - What is seen

    /// Why the guest is better off at the other host; nil where it is not.
    private static func cause(_ own: UplinkSight, _ other: UplinkSight?) -> Cause? {
        guard let other, other.isConnected else { return nil }
        if !own.isThere { return .noUplink }
        if !own.isConnected { return .noCarrier }
        return isSegmented(own, other) && other.sources > own.sources ? .segmented : nil
    }

    /// Both have a network, and it is not the same.
    private static func isSegmented(_ own: UplinkSight, _ other: UplinkSight) -> Bool {
        guard own.isConnected, other.isConnected, let here = own.missed, let there = other.missed else { return false }
        return here >= missedMin && there >= missedMin
    }

    /// For how long what is seen has to last before the guest comes home; nil where it stays.
    private func patience(_ own: UplinkSight, _ other: UplinkSight?) -> UInt64? {
        guard own.isConnected else { return nil }
        guard let other, other.isConnected else { return Self.debounce }
        if Self.isSegmented(own, other) { return own.sources > other.sources ? Self.debounce : nil }
        // Without probes at both hosts a carrier is all that is known.
        guard let missed = own.missed, other.missed != nil else { return settle }
        return missed < Self.missedMin ? settle : nil
    }
}
