import Model

/// When the epoch that runs is to end: soon after output begins to wait for its checkpoint, at the latest after the longest
/// epoch, and later still while the guest does next to nothing.
///
/// Answering as soon as output is held is Kemari's idea (Tamura et al., 2008); a fixed epoch makes every answer wait for
/// the rest of it. What bounds the checkpoints is the share of time in which the guest stands still. All times are
/// nanoseconds of one monotonic clock, which the caller reads.
public struct EpochTimer: Sendable, Equatable {
    public struct Settings: Sendable, Equatable {
        /// The longest epoch of a guest that works.
        public var epoch: UInt64
        /// The longest epoch of a guest that changes next to nothing and sends nothing; at least `epoch`.
        public var idleEpoch: UInt64
        /// End an epoch when its first output is held.
        public var endsOnOutput: Bool
        /// The largest share of time in which the guest may stand still because of output, in percent, 1 to 90.
        public var pauseBudget: UInt64

        public init(epoch: UInt64, idleEpoch: UInt64, endsOnOutput: Bool, pauseBudget: UInt64) {
            self.epoch = epoch
            self.idleEpoch = max(idleEpoch, epoch)
            self.endsOnOutput = endsOnOutput
            self.pauseBudget = min(max(pauseBudget, 1), 90)
        }
    }

    /// Frames that follow the first within this time leave with it.
    static let gathering: UInt64 = 150_000
    /// A guest that wrote fewer pages in an epoch counts as idle.
    static let idlePagesMax: UInt64 = 64

    public let settings: Settings
    private var began: UInt64 = 0
    private var pause: UInt64 = 0
    private var length: UInt64

    public init(_ settings: Settings) {
        self.settings = settings
        length = settings.epoch
    }

    /// A checkpoint is over: the guest runs again since `now`, after it stood still for `pause` and had written
    /// `dirtyPages`, and sent `heldFrames` in the epoch that ended.
    public mutating func resumed(at now: UInt64, pause latest: UInt64, dirtyPages: UInt64, heldFrames: UInt64) {
        began = now
        // The mean follows within some epochs; a single long pause must not stop answers for long.
        pause = pause == 0 ? latest : pause - pause / 4 + latest / 4
        let isIdle = dirtyPages < Self.idlePagesMax && heldFrames == 0
        length = isIdle ? min(length * 2, settings.idleEpoch) : settings.epoch
    }

    /// When the epoch is to end. `firstHeld` is when its first output reached the gate; nil when none did.
    public func due(firstHeld: UInt64?) -> UInt64 {
        let atTheLatest = began + length
        guard settings.endsOnOutput, let firstHeld else { return atTheLatest }
        return min(max(began + gap, firstHeld + Self.gathering), atTheLatest)
    }

    /// How long the guest runs at least between two checkpoints, so that it stands still within the budget.
    var gap: UInt64 { pause * (100 - settings.pauseBudget) / settings.pauseBudget }
}
