/// What the epochs of one VM are to be like; what can be changed while it is protected.
public struct EpochTuning: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The longest epoch of a guest that works, in milliseconds.
    public var epochMilliseconds: Int
    /// What the epochs are made for; nil: answers as soon as the pause budget lets them.
    public var goal: EpochGoal?
    /// The largest share of the guest's work that pauses because of its output may cost, in percent; nil is what the
    /// configuration says.
    public var pauseBudget: Int?
    /// The most that the VM's replication may send, in megabits per second; nil is as much as the link takes.
    public var linkCapMegabits: Int?

    public init(
        epochMilliseconds: Int, goal: EpochGoal? = nil, pauseBudget: Int? = nil, linkCapMegabits: Int? = nil
    ) {
        self.epochMilliseconds = epochMilliseconds
        self.goal = goal
        self.pauseBudget = pauseBudget
        self.linkCapMegabits = linkCapMegabits
    }

    /// `an epoch of at most 20 ms, answers within 5.0 ms`.
    public var description: String {
        var parts = ["an epoch of at most \(epochMilliseconds) ms"]
        if let goal { parts.append(goal.description) }
        if let pauseBudget { parts.append("a pause budget of \(pauseBudget) %") }
        if let linkCapMegabits { parts.append("no more than \(linkCapMegabits) Mbit/s on the link") }
        return parts.joined(separator: ", ")
    }
}

/// What the epochs of a VM are fitted to.
public enum EpochGoal: Codable, Hashable, Sendable, CustomStringConvertible {
    /// The guest's answers wait for no longer than this; with as little overhead as that leaves.
    case latency(milliseconds: Double)
    /// Protection costs the guest no more than this share of its work; with answers as soon as that leaves.
    case overhead(percent: Double)

    /// `answers within 5.0 ms`.
    public var description: String {
        switch self {
        case .latency(let milliseconds): "answers within \(milliseconds) ms"
        case .overhead(let percent): "no more than \(percent) % of its work lost"
        }
    }
}
