/// Tells a slow peer from a dead one by the silence on one path, without a clock of its own: it is told the time at each
/// look. It decides nothing but how soon somebody is asked; who may run is the register's (`docs/INVARIANTS.md`).
///
/// How much silence is borne follows the longest gap between two arrivals seen lately, which decays slowly, times
/// `margin`, between a floor and a ceiling. A new judge knows nothing of its peer, so it begins at the ceiling.
/// `docs/DETECTION.md` has the measurements behind the constants.
///
/// Silence is counted only while this side listened: when a look comes late (a stopped process, a frozen host), what lies
/// between counts as one interval, and whatever arrived meanwhile has one interval to be read before the next look.
///
/// All times are nanoseconds of one monotonic clock.
public struct SilenceJudge: Sendable, Equatable {
    public struct Limits: Hashable, Sendable {
        /// The least and the most silence after which the peer counts as lost.
        public let floor: UInt64
        public let ceiling: UInt64
        /// How far apart the looks are.
        public let interval: UInt64

        /// Milliseconds, clamped to what makes sense, since some of them come from a peer: 1 to 600,000; the floor at
        /// least three of the peer's heartbeats, and no more than the ceiling unless those demand it.
        public init(floor: Int, ceiling: Int, interval: Int, peerInterval: Int) {
            func sane(_ milliseconds: Int) -> UInt64 { UInt64(min(max(milliseconds, 1), 600_000)) * 1_000_000 }
            let least = 3 * sane(peerInterval)
            self.ceiling = max(sane(ceiling), least)
            self.floor = min(max(sane(floor), least), self.ceiling)
            self.interval = sane(interval)
        }
    }

    public enum Verdict: Sendable, Equatable {
        case alive
        /// Half of what is borne is over.
        case suspicious
        /// More than is borne, but the host is known to live by another way: it is waited for, up to the ceiling.
        case stalled
        /// The same, beyond the ceiling: the path is down and the host is not.
        case pathDown
        /// Nobody is heard.
        case silent
    }

    /// The longest gap lately, times this, is borne.
    public static let margin = 3.0
    /// After this time a gap counts for a third (1/e) of itself, in nanoseconds.
    public static let memory = 30e9

    public let limits: Limits
    /// The longest gap between two arrivals, decaying.
    private var longestGap: Double
    private var heard: UInt64
    private var lookedAt: UInt64
    /// The silence since the last arrival, as far as this side listened.
    public private(set) var silence: UInt64 = 0

    /// Begins to listen at `now`.
    public init(_ limits: Limits, now: UInt64) {
        self.limits = limits
        heard = now
        lookedAt = now
        longestGap = Double(limits.ceiling) / Self.margin
    }

    /// One look at the path. `newest` is when something came last (0: never), `gap` the longest time between two arrivals
    /// since the look before (0: there were not two).
    public mutating func look(at now: UInt64, newest: UInt64, gap: UInt64) {
        guard now > lookedAt else { return }
        let passed = now - lookedAt
        let listened = passed > 2 * limits.interval ? limits.interval : passed
        let missed = passed - listened
        lookedAt = now
        longestGap -= longestGap * min(1, Double(passed) / Self.memory)
        silence += listened
        guard newest > heard else { return }
        heard = newest
        silence = min(silence, now > newest ? now - newest : 0)
        let seen = Double(gap > missed ? gap - missed : 0)
        longestGap = max(longestGap, min(seen, Double(limits.ceiling) / Self.margin))
    }

    /// How much silence is borne now.
    public var borne: UInt64 {
        min(max(UInt64(longestGap * Self.margin), limits.floor), limits.ceiling)
    }

    /// - Parameter hostLives: the peer's host is heard by another way.
    public func verdict(hostLives: Bool = false) -> Verdict {
        guard silence > borne else { return silence > borne / 2 ? .suspicious : .alive }
        guard hostLives else { return .silent }
        return silence > limits.ceiling ? .pathDown : .stalled
    }

    /// When the verdict may be worse, if nothing comes until then.
    public var due: UInt64 { lookedAt + (borne > silence ? borne - silence : 0) + 1 }
}
