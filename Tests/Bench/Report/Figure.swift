import Foundation

/// Measured values, kept by rounds: the rounds of all contenders of a part take turns, so that what the machine does
/// besides meets all of them alike.
struct Samples: Sendable {
    var rounds: [[Double]]

    init(_ rounds: [[Double]] = []) { self.rounds = rounds }

    mutating func append(_ round: [Double]) { rounds.append(round) }

    var all: [Double] { rounds.flatMap(\.self) }
    var median: Double { quantile(all, 0.5) }
    var medians: [Double] { rounds.map { quantile($0, 0.5) } }

    /// Of each round one value, such as its 95th percentile.
    func byRound(_ share: Double) -> Samples { Samples(rounds.map { [quantile($0, share)] }) }
}

/// One figure: what was measured, beside what it is held against in the same run.
struct Figure: Codable, Sendable {
    var name: String
    var unit: String
    /// The median of all values, and two high quantiles.
    var value: Double
    var p95: Double
    var p99: Double
    var count: Int
    /// The lowest and the highest median of a round.
    var low: Double
    var high: Double
    /// What the value is divided by, and what that is; nil for an absolute figure.
    var base: Double?
    var baseName: String
    /// The value itself for an absolute figure.
    var ratio: Double
    /// The lowest and the highest ratio of a round.
    var ratioLow: Double
    var ratioHigh: Double
    /// The ratio to reach; nil for a figure that only explains others.
    var goal: Double?
    /// Whether the ratio is to be at least as high as the goal; else at most.
    var isFloor: Bool

    var isReached: Bool? { goal.map { isFloor ? ratio >= $0 : ratio <= $0 } }

    /// - Parameters:
    ///   - goal: what the ratio, or without a base the value, is to be at most.
    ///   - floor: what it is to be at least.
    init(
        _ name: String, _ samples: Samples, _ unit: String, over bases: Samples? = nil, _ baseName: String = "",
        goal: Double? = nil, floor: Double? = nil
    ) {
        self.name = name
        self.unit = unit
        self.baseName = baseName
        let all = samples.all
        value = quantile(all, 0.5)
        p95 = quantile(all, 0.95)
        p99 = quantile(all, 0.99)
        count = all.count
        let medians = samples.medians
        low = medians.min() ?? .nan
        high = medians.max() ?? .nan
        base = bases?.median
        ratio = value / (base ?? 1)
        let baseMedians = bases?.medians ?? []
        let ratios = medians.enumerated().map { index, median in
            median / (baseMedians.count == medians.count ? baseMedians[index] : bases?.median ?? 1)
        }
        ratioLow = ratios.min() ?? .nan
        ratioHigh = ratios.max() ?? .nan
        self.goal = floor ?? goal
        isFloor = floor != nil
    }

    /// Values that are each a round of their own.
    init(
        _ name: String, _ values: [Double], _ unit: String, over bases: [Double]? = nil, _ baseName: String = "",
        goal: Double? = nil, floor: Double? = nil
    ) {
        self.init(
            name, Samples(values.map { [$0] }), unit, over: bases.map { Samples($0.map { [$0] }) }, baseName,
            goal: goal, floor: floor)
    }
}

/// The value below which this share of all values lies, both ends included; not a number without values.
func quantile(_ values: [Double], _ share: Double) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return .nan }
    return sorted[min(sorted.count - 1, max(0, Int((Double(sorted.count) * share).rounded(.up)) - 1))]
}

func median(_ values: [Double]) -> Double { quantile(values, 0.5) }
