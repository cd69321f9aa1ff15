/// Who may run a VM: the one value that an arbiter keeps for it, changed only by compare-and-set from one term to the
/// next. Everything that a host may do without asking follows from the register that it last won or read.
public struct Register: Hashable, Sendable, Codable {
    public enum Mode: String, Hashable, Sendable, Codable, CaseIterable {
        /// The owner runs the guest and its output waits for the standby's acknowledgements.
        case paired
        /// The owner runs the guest alone and its output flows.
        case solo
    }

    /// One more at each change. The first claim of a VM makes term 1.
    public var term: Term
    public var owner: NodeName
    public var mode: Mode
    /// The session whose acknowledgements count; 0 in mode `solo`.
    public var session: SessionID
    /// Who may take over, as the incarnation that holds the image; nil in mode `solo`.
    public var standby: StandbyIdentity?
    /// One history of the guest. A forced takeover that could not ask the arbiter starts another one.
    public var lineage: Lineage
    public var level: Level

    public init(
        term: Term, owner: NodeName, mode: Mode, session: SessionID, standby: StandbyIdentity?, lineage: Lineage,
        level: Level
    ) {
        self.term = term
        self.owner = owner
        self.mode = mode
        self.session = session
        self.standby = standby
        self.lineage = lineage
        self.level = level
    }
}

extension Register {
    /// Whether a guest that starts at `node` would be another one's than the register says: somebody else owns it, or may take
    /// over.
    public func isOfOthers(than node: NodeName) -> Bool { !others(than: node).isEmpty }

    /// The nodes, other than `node`, that run the guest or may take it over.
    public func others(than node: NodeName) -> [NodeName] {
        [owner, standby?.node].compactMap(\.self).filter { $0 != node }
    }
}

/// A standby and the image that it holds. A standby that drops or loses its image, or cannot know whether it did,
/// takes another incarnation: nothing that was true of the old one is true of it.
public struct StandbyIdentity: Hashable, Sendable, Codable {
    public var node: NodeName
    /// Random; never 0.
    public var incarnation: UInt64

    public init(node: NodeName, incarnation: UInt64) {
        self.node = node
        self.incarnation = incarnation
    }
}

/// One uninterrupted sequence of epochs between a primary and a standby; random, unique over all time.
public struct SessionID: Hashable, Sendable, Codable, CustomStringConvertible {
    public var number: UInt64
    public init(_ number: UInt64) { self.number = number }
    public static let none = SessionID(0)
    public var description: String { String(number, radix: 16) }
}

/// One history of a guest, from its first protection on; random.
public struct Lineage: Hashable, Sendable, Codable, CustomStringConvertible {
    public var number: UInt64
    public init(_ number: UInt64) { self.number = number }
    public var description: String { String(number, radix: 16) }
}

/// Chosen anew for each compare-and-set, so that the same request sent twice takes effect once and is answered alike.
public struct Nonce: Hashable, Sendable, Codable, CustomStringConvertible {
    public var number: UInt64
    public init(_ number: UInt64) { self.number = number }
    public var description: String { String(number, radix: 16) }
}

/// What an arbiter says to a compare-and-set.
public enum RegisterAnswer: Hashable, Sendable {
    /// The register is now what was asked for.
    case applied(Register)
    /// It was not what was expected; nothing was changed. Nil when there is no register of that name.
    case conflict(Register?)
    /// Nobody knows: the request may have taken effect, may take effect later, or never.
    case unknown(String)
}
