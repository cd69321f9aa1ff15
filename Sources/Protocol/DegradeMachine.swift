import Model

/// Whether a guest whose output is held can be kept at its level, has to fall to one that can be kept, and when it is tried to
/// climb back.
///
/// It looks at what waits: epochs that are sealed and not acknowledged, output that is held, and, while it climbs, disk writes
/// that the standby has not taken. How the guest gets from one level to another is `DialMachine`'s. There is no clock in it: times
/// are nanoseconds of one monotonic clock, and `docs/DEGRADE.md` has the table.
///
/// Every fall ends at `landing` first, as nothing on the way there needs more of a slow link than the last epoch. A guest that is
/// to rest at a higher level goes on to it from there.
public struct DegradeMachine: Sendable, Hashable {
    public struct Settings: Sendable, Hashable {
        /// Where a fall ends.
        public static let landing = Level.restart
        public static let never = Settings(floor: nil, after: 0, targetAfter: 0, retry: 1)
        /// How many times `after` the way down may take: its last epoch is no smaller than the one that was too slow.
        public static let wayDown: UInt64 = 2
        /// The part of `after` that a disk write may have waited for when the guest goes on to where it rests.
        static let quickPart: UInt64 = 8
        /// The longest wait before it climbs.
        public static let retryMax: UInt64 = 3_600_000_000_000

        /// The level at which it rests once it fell; nil where it does not fall.
        public var floor: Level?
        /// The longest time that output may wait, or the guest stand, because epochs are not acknowledged.
        public var after: UInt64
        /// How long the operator's target may be missed; 0 where that does not count.
        public var targetAfter: UInt64
        /// The wait before it climbs after a first fall.
        public var retry: UInt64

        public init(floor: Level?, after: UInt64, targetAfter: UInt64, retry: UInt64) {
            self.floor = floor
            self.after = after
            self.targetAfter = targetAfter
            self.retry = retry
        }
    }

    /// What is seen of a session at one moment.
    public struct Sight: Sendable {
        /// The last epoch that is sealed, and the last one that is acknowledged.
        public var sealed = Epoch.firstCopy
        public var acknowledged = Epoch.firstCopy
        /// Since when the oldest output waits that is held; nil where none is.
        public var heldSince: UInt64?
        /// Disk writes that were sent to the standby, and those that it has taken, where the guest waits for that.
        public var written: UInt64 = 0
        public var taken: UInt64 = 0
        /// The operator's target is missed.
        public var missesTarget = false
        /// The dial can be turned: the register says PAIRED.
        public var isPaired = false
        /// What waits for the last epoch, or for the first one, is let go once the standby is lost: the arbiter has nothing
        /// against it, as far as is known.
        public var mayGiveUp = false
        /// The standby is heard, the guest runs, and nothing else is under way.
        public var isCalm = false
        /// It lives by what its level has and the one that was asked for has not.
        public var isHeldBack = false
        /// It is lower than where it is to rest, and that level can be had, as far as is known.
        public var restsHigher = false

        public init() {}
    }

    public enum Move: Sendable, Equatable {
        /// The dial is to be turned down, for this reason.
        case fall(String)
        /// Not even the last epoch arrives: the standby is as good as lost.
        case giveUp(String)
        /// The dial is to be turned up to where it is to rest.
        case settle
        /// The dial is to be turned up again.
        case climb
    }

    public enum State: Sendable, Hashable {
        /// At the level that was asked for, as far as this machine is concerned.
        case holding
        case falling(since: UInt64)
        /// It climbs at that time, when all is calm.
        case fallen(climbs: UInt64)
        /// On its way to where it rests.
        case settling(climbs: UInt64)
        case climbing
    }

    public let settings: Settings
    public private(set) var state = State.holding
    /// How long it stays below after the next fall, and how often it fell lately.
    private var backOff: BackOff
    /// When it came to hold last.
    private var holdsSince: UInt64 = 0
    private var epochs = Backlog()
    private var writes = Backlog()
    private var missedSince: UInt64?
    /// Whether it may be tried to go on to where it rests: once after each fall, and in each session.
    private var maySettle = true

    public init(_ settings: Settings) {
        self.settings = settings
        backOff = BackOff(first: settings.retry, most: max(settings.retry, Settings.retryMax))
    }

    public mutating func look(_ sight: Sight, at now: UInt64) -> Move? {
        guard settings.floor != nil else { return nil }
        epochs.note(sight.sealed.number, sight.acknowledged.number, at: now)
        writes.note(sight.written, sight.taken, at: now)
        missedSince = sight.missesTarget ? missedSince ?? now : nil
        switch state {
        case .holding:
            forget(now)
            guard let why = trouble(sight, now) ?? missedTarget(now), isRested(now) else { return nil }
            return fall(why, sight, now)
        case .falling(let since):
            guard sight.mayGiveUp, now >= since + Settings.wayDown * settings.after, let why = trouble(sight, now)
            else { return nil }
            state = .fallen(climbs: now + backOff.wait)
            return .giveUp(why)
        case .fallen(let climbs):
            guard sight.isCalm, sight.isPaired else { return nil }
            if maySettle, sight.restsHigher, areWritesQuick(now) {
                maySettle = false
                state = .settling(climbs: climbs)
                return .settle
            }
            guard now >= climbs, !sight.isHeldBack else { return nil }
            state = .climbing
            return .climb
        case .settling(let climbs):
            // Nothing is under way any more: a part of it could not be taken away again.
            if sight.isCalm { state = .fallen(climbs: climbs) }
            return nil
        case .climbing:
            guard let why = trouble(sight, now) ?? slowWrites(now) else { return nil }
            return fall(why, sight, now)
        }
    }

    /// The dial stands, where it `isAsked` to or below.
    public mutating func stood(isAsked: Bool, at now: UInt64) {
        switch state {
        case .falling where isAsked: hold(now)
        case .falling: state = .fallen(climbs: now + backOff.wait)
        case .settling(let climbs): state = .fallen(climbs: climbs)
        case .climbing where isAsked: hold(now)
        case .climbing: state = .fallen(climbs: now + backOff.fail())
        case .holding, .fallen: break
        }
    }

    /// There is no session whose output is held, or no longer the same one.
    public mutating func rest(at now: UInt64) {
        (epochs, writes, missedSince, maySettle) = (Backlog(), Backlog(), nil, true)
        switch state {
        case .falling, .climbing: state = .fallen(climbs: now + backOff.wait)
        case .settling(let climbs): state = .fallen(climbs: climbs)
        case .holding, .fallen: break
        }
    }

    /// It is at the level that was asked for again, by no step of this machine's, or another one is asked for.
    public mutating func reset() { self = DegradeMachine(settings) }

    /// An earlier run of the agent left it below.
    public mutating func find(at now: UInt64) {
        state = .fallen(climbs: now + backOff.fail())
    }

    // MARK: -

    private mutating func fall(_ why: String, _ sight: Sight, _ now: UInt64) -> Move {
        let wait = backOff.fail()
        maySettle = true
        guard sight.isPaired else {
            state = .fallen(climbs: now + wait)
            return .giveUp(why)
        }
        state = .falling(since: now)
        return .fall(why)
    }

    private mutating func hold(_ now: UInt64) {
        state = .holding
        holdsSince = now
    }

    /// A fall or a climb that was just over is not followed by the next one at once, when it changed nothing.
    private func isRested(_ now: UInt64) -> Bool { holdsSince == 0 || now >= holdsSince + settings.after }

    /// A long stay: the next fall is a first one.
    private mutating func forget(_ now: UInt64) {
        if backOff.failures > 0, now >= holdsSince + 4 * backOff.wait { backOff.reset() }
    }

    private func trouble(_ sight: Sight, _ now: UInt64) -> String? {
        guard let open = epochs.since else { return nil }
        let waited = now - min(open, sight.heldSince ?? open, now)
        guard waited >= settings.after else { return nil }
        return "the standby has not acknowledged an epoch for \(waited / 1_000_000) ms"
    }

    private func slowWrites(_ now: UInt64) -> String? {
        guard let open = writes.since, now >= open + settings.after else { return nil }
        return "a disk write waited for \((now - open) / 1_000_000) ms behind the copy of the memory"
    }

    /// For the step to where it rests the guest stands still until its writes are done that are under way: so not while one of
    /// them has waited for long.
    private func areWritesQuick(_ now: UInt64) -> Bool {
        writes.since.map { now < $0 + settings.after / Settings.quickPart } ?? true
    }

    private func missedTarget(_ now: UInt64) -> String? {
        guard settings.targetAfter > 0, let missedSince, now >= missedSince + settings.targetAfter else { return nil }
        return "its target was missed for \((now - missedSince) / 1_000_000_000) s"
    }
}

/// What was handed over by number and not confirmed yet, and since when that is known.
private struct Backlog: Sendable, Hashable {
    private var open: [(through: UInt64, since: UInt64)] = []

    var since: UInt64? { open.first?.since }

    mutating func note(_ given: UInt64, _ confirmed: UInt64, at now: UInt64) {
        open.removeAll { $0.through <= confirmed }
        if given > max(confirmed, open.last?.through ?? 0) { open.append((given, now)) }
    }

    static func == (left: Backlog, right: Backlog) -> Bool { left.open.elementsEqual(right.open, by: ==) }

    func hash(into hasher: inout Hasher) {
        for entry in open { hasher.combine(entry.through) }
    }
}
