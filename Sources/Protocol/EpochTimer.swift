import Model

/// When the epoch that runs is to end: soon after output begins to wait for its checkpoint, at the latest after the longest
/// epoch, and later still while the guest does next to nothing.
///
/// Answering as soon as output is held is Kemari's idea (Tamura et al., 2008); a fixed epoch makes every answer wait for
/// the rest of it. What bounds the checkpoints is the work that the guest loses by them: a guest that had nothing to do
/// loses nothing by standing still. All times are nanoseconds of one monotonic clock, which the caller reads.
public struct EpochTimer: Sendable, Equatable {
    public struct Settings: Sendable, Equatable {
        /// The longest epoch of a guest that works.
        public var epoch: UInt64
        /// The longest epoch of a guest that works less than half of `epoch` in it and sends nothing; at least `epoch`.
        public var idleEpoch: UInt64
        /// End an epoch when its first output is held.
        public var endsOnOutput: Bool
        /// The largest share of the guest's work that pauses because of output may cost, in percent of one processor's, 1 to
        /// 90; without a goal only.
        public var pauseBudget: UInt64
        /// What the epochs are fitted to instead.
        public var goal: EpochGoal?

        public init(
            epoch: UInt64, idleEpoch: UInt64, endsOnOutput: Bool, pauseBudget: UInt64, goal: EpochGoal? = nil
        ) {
            self.epoch = epoch
            self.idleEpoch = max(idleEpoch, epoch)
            self.endsOnOutput = endsOnOutput
            self.pauseBudget = min(max(pauseBudget, 1), 90)
            self.goal = goal
        }
    }

    /// Frames that follow the first within this time leave with it.
    static let gathering: UInt64 = 150_000
    /// However little the guest works, it does not stand still for more than this share of time because of its output, in
    /// percent; a larger budget takes its place.
    static let standstillMax: UInt64 = 50
    /// Epochs are not shortened below this for the sake of a goal.
    static let shortest: UInt64 = 1_000_000

    public private(set) var settings: Settings
    private(set) var costs = EpochCosts()
    /// When the epoch that runs began.
    private var runsSince: UInt64 = 0
    /// The longest epoch of a guest that works, as far as the goal leaves it what was asked for.
    private(set) var length: UInt64
    /// The guest worked for more than half of the epoch that ended.
    private var worked = true

    public init(_ settings: Settings) {
        self.settings = settings
        length = settings.epoch
    }

    /// Other settings from now on; what was learned of the guest stays.
    public mutating func change(_ settings: Settings) {
        self.settings = settings
        length = settings.epoch
    }

    /// A checkpoint is over: the guest runs again since `now`, after it stood still for `pause` and had written
    /// `dirtyPages` in the epoch that ended. Of processor time it had used `used` in it, on all its virtual processors; nil
    /// when nobody knows.
    ///
    /// Whatever runs on the others, one that is busy makes the guest a busy one: its program stands still as a whole.
    public mutating func resumed(at now: UInt64, pause: UInt64, used: UInt64?, dirtyPages: UInt64) {
        let ran = now > runsSince + pause ? now - pause - runsSince : 0
        let share = used.map { ran > 0 ? min(Double($0) / Double(ran), 1) : 1 } ?? 1
        if runsSince > 0 { costs.note(cycle: now - runsSince, pause: pause, share: share, dirtyPages: dirtyPages) }
        runsSince = now
        worked = share > 0.5
        fit()
    }

    /// The standby acknowledged an epoch, `transit` after the guest ran again behind it.
    public mutating func acknowledged(after transit: UInt64) { costs.note(transit: transit) }

    /// When the epoch is to end. `firstHeld` is when its first output reached the gate, nil when none did; `used` asks for
    /// the processor time that the guest has used in it, which tells an idle guest until it reaches `idleWork`.
    public func due(firstHeld: UInt64?, used: () -> UInt64) -> UInt64 {
        guard let firstHeld else { return runsSince + (isIdle(used) ? settings.idleEpoch : length) }
        guard settings.endsOnOutput else { return runsSince + length }
        return max(runsSince + min(gap, length), firstHeld + Self.gathering)
    }

    /// An epoch in which the guest has used so much processor time is not an idle one; nil where it is taken for none anyway.
    public var idleWork: UInt64? { worked ? nil : idleWorkMax }
    private var idleWorkMax: UInt64 { length / 2 }

    /// What is lost with the host is work, so a guest that hardly works may go on for longer: it never loses more than the
    /// work of two longest epochs so. Clocks of other processes tell what runs right now a little late, hence `worked`.
    private func isIdle(_ used: () -> UInt64) -> Bool { !worked && used() < idleWorkMax }

    /// How long the guest runs at least between two checkpoints because of its output.
    var gap: UInt64 {
        let share = max(Self.standstillMax, settings.pauseBudget)
        let least = costs.pause * (100 - share) / share
        switch settings.goal {
        case nil: return max(least, costs.gap(losing: costs.lost, percent: Double(settings.pauseBudget)))
        case .overhead(let percent): return max(least, costs.gap(losing: costs.work, percent: percent))
        case .latency(let milliseconds):
            let (limit, answer) = (UInt64(milliseconds * 1e6), costs.answer + Self.gathering)
            return max(least, limit > answer ? limit - answer : 0)
        }
    }

    /// Fits the length of epochs without output to the goal. Between two bounds nothing is changed, so that it comes to rest.
    private mutating func fit() {
        switch settings.goal {
        case nil: break
        case .overhead(let percent):
            length = min(max(settings.epoch, costs.gap(losing: costs.work, percent: percent)), settings.idleEpoch)
        case .latency(let milliseconds):
            // What is written in an epoch makes the next answer late.
            let (limit, answer) = (UInt64(milliseconds * 1e6), costs.answer + Self.gathering)
            let shortest = min(max(Self.shortest, costs.pause), settings.epoch)
            if !settings.endsOnOutput {
                length = min(max(shortest, limit > answer ? limit - answer : 0), settings.epoch)
            } else if answer > limit {
                length = max(length - length / 8, shortest)
            } else if answer < limit * 6 / 10 {
                length = min(length + length / 16, settings.epoch)
            }
        }
    }
}
