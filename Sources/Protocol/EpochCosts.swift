/// What checkpoints cost the guest lately, in nanoseconds.
///
/// Means follow within some epochs; a single long pause must not stop answers for long.
struct EpochCosts: Sendable, Equatable {
    private static let faultPerPage = UInt64(EpochModel.faultTime)
    /// The overhead is that of the last epochs in about this time.
    static let window = 5_000_000_000.0

    private(set) var pause: UInt64 = 0
    /// Work that one pause costs, as time of one processor.
    private(set) var lost: UInt64 = 0
    /// Work that the tracking of one epoch's writes costs.
    private(set) var tracking: UInt64 = 0
    /// From the guest running again to the acknowledgement: nil before the first.
    private(set) var transit: UInt64?
    /// How far pause and transit are from their means.
    private var deviation: UInt64 = 0
    private var workInWindow = 0.0
    private var timeInWindow = 0.0

    mutating func note(cycle: UInt64, pause latest: UInt64, share: Double, dirtyPages: UInt64) {
        if pause > 0 { deviation = Self.mean(deviation, Self.distance(pause, latest)) }
        pause = Self.mean(pause, latest)
        lost = Self.mean(lost, UInt64(Double(latest) * share))
        tracking = Self.mean(tracking, dirtyPages * Self.faultPerPage)
        let kept = max(0, 1 - Double(cycle) / Self.window)
        workInWindow = workInWindow * kept + Double(latest) * share + Double(dirtyPages * Self.faultPerPage)
        timeInWindow = timeInWindow * kept + Double(cycle)
    }

    mutating func note(transit latest: UInt64) {
        if let transit { deviation = Self.mean(deviation, Self.distance(transit, latest)) }
        transit = Self.mean(transit ?? 0, latest)
    }

    /// All work that one epoch costs.
    var work: UInt64 { lost + tracking }

    /// The share of one processor's work that was lost lately, in percent.
    var overhead: Double { timeInWindow > 0 ? workInWindow / timeInWindow * 100 : 0 }

    /// How long a checkpoint lets an answer wait, in all but the worst cases.
    var answer: UInt64 { pause + (transit ?? 0) + deviation }

    /// How long the guest has to run for a loss of `work` in each epoch to be no more than that share.
    func gap(losing work: UInt64, percent: Double) -> UInt64 {
        let cycle = UInt64(min(Double(work) * 100 / percent, 1e18))
        return cycle > pause ? cycle - pause : 0
    }

    private static func mean(_ mean: UInt64, _ latest: UInt64) -> UInt64 {
        mean == 0 ? latest : mean - mean / 4 + latest / 4
    }

    private static func distance(_ one: UInt64, _ other: UInt64) -> UInt64 { one > other ? one - other : other - one }
}
