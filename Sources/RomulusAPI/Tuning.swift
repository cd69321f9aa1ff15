import Model

/// What a request says of the epochs of a VM; nil leaves a matter as it is.
public protocol TuningRequest: Sendable {
    /// The longest epoch of a guest that works, in milliseconds.
    var epochMilliseconds: Int? { get }
    /// How long the guest's answers may wait, in milliseconds. Takes the place of a target of overhead.
    var targetLatency: Double? { get }
    /// The share of the guest's work that protection may cost, in percent. Takes the place of a target of latency.
    var targetOverhead: Double? { get }
    /// The share of the guest's work that pauses because of its output may cost, in percent.
    var pauseBudget: Int? { get }
    /// The most that the VM's replication may send, in megabits per second; 0 is as much as the link takes.
    var linkCapMegabits: Int? { get }
}

/// The ranges that requests and the configuration keep to.
public enum TuningRange {
    public static let epochMilliseconds = 1...10_000
    public static let targetLatency = 1.0...10_000
    public static let targetOverhead = 0.1...90
    public static let pauseBudget = 1...90
    /// With 0 for none.
    public static let linkCapMegabits = 0...1_000_000
}

extension TuningRequest {
    /// Says what is out of its range.
    public func checkTuning() throws(APIError) {
        func check<Value>(_ name: String, _ value: Value?, _ range: ClosedRange<Value>) throws(APIError) {
            guard let value, !range.contains(value) else { return }
            throw APIError(
                .badRequest, "“\(name)” must be from \(range.lowerBound) to \(range.upperBound), not \(value)")
        }
        try check("epoch_ms", epochMilliseconds, TuningRange.epochMilliseconds)
        try check("target_latency_ms", targetLatency, TuningRange.targetLatency)
        try check("target_overhead_percent", targetOverhead, TuningRange.targetOverhead)
        try check("pause_budget_percent", pauseBudget, TuningRange.pauseBudget)
        try check("link_cap_mbit", linkCapMegabits, TuningRange.linkCapMegabits)
        if targetLatency != nil, targetOverhead != nil {
            throw APIError(
                .badRequest,
                "“target_latency_ms” and “target_overhead_percent” exclude each other: epochs are fitted to one of them"
            )
        }
    }

    /// What it says of the cap, or `other`; nil is none.
    public func linkCap(unlessSaid other: Int?) -> Int? {
        guard let linkCapMegabits else { return other }
        return linkCapMegabits == 0 ? nil : linkCapMegabits
    }

    /// What a target in it comes to; nil when there is none.
    public var goal: EpochGoal? {
        if let targetLatency { return .latency(milliseconds: targetLatency) }
        return targetOverhead.map { .overhead(percent: $0) }
    }
}

/// Change what the epochs of a VM are like while it is protected.
public struct TuneRequest: Codable, Hashable, Sendable, TuningRequest {
    public var vm: VMName
    public var epochMilliseconds: Int?
    public var targetLatency: Double?
    public var targetOverhead: Double?
    public var pauseBudget: Int?
    public var linkCapMegabits: Int?
    /// True: epochs are fitted to no target any more.
    public var noTarget: Bool?

    public init(
        vm: VMName, epochMilliseconds: Int? = nil, targetLatency: Double? = nil, targetOverhead: Double? = nil,
        pauseBudget: Int? = nil, linkCapMegabits: Int? = nil, noTarget: Bool? = nil
    ) {
        self.vm = vm
        self.epochMilliseconds = epochMilliseconds
        self.targetLatency = targetLatency
        self.targetOverhead = targetOverhead
        self.pauseBudget = pauseBudget
        self.linkCapMegabits = linkCapMegabits
        self.noTarget = noTarget
    }

    /// Says what is out of its range, contradicts itself or asks for nothing.
    public func check() throws(APIError) {
        try checkTuning()
        if noTarget == true, goal != nil {
            throw APIError(.badRequest, "“no_target” and a target exclude each other")
        }
        if epochMilliseconds == nil, goal == nil, pauseBudget == nil, linkCapMegabits == nil, noTarget != true {
            throw APIError(
                .badRequest,
                "say what is to change: a target, “no_target”, “epoch_ms”, “pause_budget_percent” or “link_cap_mbit”")
        }
    }

    /// Why it cannot follow `tuning`: a pause budget has no effect beside a target. Nil when it can.
    public func reasonToRefuse(after tuning: EpochTuning) -> String? {
        guard pauseBudget != nil, let goal = applied(to: tuning).goal else { return nil }
        return "a pause budget has no effect on \(vm), whose epochs are fitted to a target (\(goal)): give it"
            + " with --no-target (“no_target”), or leave it out"
    }

    /// What becomes of `tuning`.
    public func applied(to tuning: EpochTuning) -> EpochTuning {
        EpochTuning(
            epochMilliseconds: epochMilliseconds ?? tuning.epochMilliseconds,
            goal: noTarget == true ? nil : goal ?? tuning.goal, pauseBudget: pauseBudget ?? tuning.pauseBudget,
            linkCapMegabits: linkCap(unlessSaid: tuning.linkCapMegabits))
    }

    enum CodingKeys: String, CodingKey {
        case vm
        case epochMilliseconds = "epoch_ms"
        case targetLatency = "target_latency_ms"
        case targetOverhead = "target_overhead_percent"
        case pauseBudget = "pause_budget_percent"
        case linkCapMegabits = "link_cap_mbit"
        case noTarget = "no_target"
    }
}

/// What the epochs of a VM are fitted to, and how near they come. Of the two targets one is set, `reached` is in its unit.
public struct TargetReport: Codable, Hashable, Sendable {
    /// In milliseconds.
    public var latency: Double?
    /// In percent.
    public var overhead: Double?
    /// How long an answer that comes at a bad moment is expected to wait, or the share of the guest's work that was lost
    /// lately; nil before there is something to tell.
    public var reached: Double?
    /// Whether that is no more than the target, but for the noise of measuring.
    public var isHeld: Bool
    /// Why not, in one sentence.
    public var reason: String?

    public init(
        latency: Double? = nil, overhead: Double? = nil, reached: Double? = nil, isHeld: Bool, reason: String? = nil
    ) {
        self.latency = latency
        self.overhead = overhead
        self.reached = reached
        self.isHeld = isHeld
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case latency = "latency_ms"
        case overhead = "overhead_percent"
        case reached
        case isHeld = "held"
        case reason
    }
}
