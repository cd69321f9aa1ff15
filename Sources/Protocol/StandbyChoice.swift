import Model

/// Which host is asked to be the standby of a VM that has none: the one that it had, and once that is lost for long, all in
/// turn. It has no clock of its own: times are nanoseconds of one clock that never goes back.
public struct StandbyChoice: Sendable, Equatable {
    /// In the order in which they are asked; never empty.
    public let nodes: [NodeName]
    /// How long a standby may be lost before the next one is asked, in nanoseconds.
    public let replaceAfter: UInt64
    /// The standby, or who was asked last.
    public private(set) var current: NodeName
    /// True while another than the one that the VM had is sought.
    public private(set) var isReplacing = false
    /// When somebody was first asked since there was a standby; nil while there is one.
    private var askedSince: UInt64?

    /// `first` is asked first, then those in reserve that are others.
    public init(_ first: NodeName, reserve: [NodeName], replaceAfter: UInt64) {
        var nodes = [first]
        for node in reserve where !nodes.contains(node) { nodes.append(node) }
        self.nodes = nodes
        self.replaceAfter = replaceAfter
        current = first
    }

    /// The VM has no standby: whom to ask at `now`.
    public mutating func next(at now: UInt64) -> NodeName {
        guard let askedSince, let index = nodes.firstIndex(of: current) else {
            askedSince = now
            return current
        }
        guard nodes.count > 1, now >= askedSince + replaceAfter else { return current }
        isReplacing = true
        current = nodes[(index + 1) % nodes.count]
        return current
    }

    /// The one that was asked last is the standby now.
    public mutating func settle() {
        askedSince = nil
        isReplacing = false
    }

    /// Those that are in reserve now.
    public var reserve: [NodeName] { nodes.filter { $0 != current } }
}
