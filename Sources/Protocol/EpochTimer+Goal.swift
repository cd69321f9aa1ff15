import Model

/// How near the epochs come to the goal that they are fitted to.
extension EpochTimer {
    public struct Standing: Sendable, Equatable {
        public var goal: EpochGoal
        /// In the goal's unit: how long an answer that comes at a bad moment is expected to wait, or the share of the
        /// guest's work that was lost lately.
        public var reached: Double
        /// Why that is more than the goal; nil when it is not.
        public var obstacle: Obstacle?

        /// Longer or shorter epochs would not help.
        public var isMissed: Bool { obstacle.map { $0 != .fitting } ?? false }
    }

    /// All times in nanoseconds.
    public enum Obstacle: Sendable, Equatable {
        /// What an answer waits for: the guest running for a while between two pauses, the pause, the way to the standby
        /// and back.
        case answer(gap: UInt64, pause: UInt64, transit: UInt64)
        /// What one epoch costs even when it is the longest there may be: work that the pause takes, and the tracking of
        /// the pages that the guest writes.
        case work(lost: UInt64, tracking: UInt64, longest: UInt64)
        /// The lengths of epochs are still on their way.
        case fitting
    }

    /// More than the goal by less than this share is no failure: it is the noise of the means.
    static let tolerance = 1.1

    /// Nil without a goal, and before there is something to tell.
    public var standing: Standing? {
        switch settings.goal {
        case nil: return nil
        case .latency(let limit)?:
            guard let transit = costs.transit else { return nil }
            let wait = settings.endsOnOutput ? max(min(gap, length), Self.gathering) : length
            let reached = Double(wait + costs.pause + transit) / 1e6
            let isHeld = reached <= limit * Self.tolerance
            let obstacle = Obstacle.answer(gap: wait, pause: costs.pause, transit: transit)
            return Standing(goal: .latency(milliseconds: limit), reached: reached, obstacle: isHeld ? nil : obstacle)
        case .overhead(let limit)?:
            guard costs.pause > 0 else { return nil }
            var obstacle: Obstacle?
            if costs.overhead > limit * Self.tolerance {
                obstacle =
                    length < settings.idleEpoch
                    ? .fitting
                    : .work(lost: costs.lost, tracking: costs.tracking, longest: settings.idleEpoch)
            }
            return Standing(goal: .overhead(percent: limit), reached: costs.overhead, obstacle: obstacle)
        }
    }
}
