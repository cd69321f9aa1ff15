/// The decisions of a protected VM, without I/O: events in, actions out.
///
/// Owns what may be released, acknowledged, applied, resumed and killed, and when, through any number of sessions and
/// restarts. May call Model only: no clock, no socket, no disk, no thread; randomness comes in once, as a seed. The
/// shells in Pair, and Agent, carry the actions out. Upholds the rule of output commit: *output leaves only when its
/// epoch is acknowledged in the current session, or after winning the right to go alone.* `docs/INVARIANTS.md` numbers
/// what follows from it (I1, I2, …); the code cites the numbers.

import Model

/// Who decides which host may run a VM.
public enum Rule: Sendable, Equatable {
    /// A witness or etcd keeps the register: every change is a compare-and-set there.
    case arbiter
    /// Nobody but the operator. The register lives with the primary's agent, and the standby never takes over by itself
    /// unless that agent asks for it.
    case manual(PrimaryMachine.LonelyPolicy)

    public var isManual: Bool { self != .arbiter }
}

/// What an agent remembers of a VM over its own end. Written durably (fsync) by the action `persist`; a restarted agent
/// has this, what it finds of a replica, and nothing else.
public struct LocalRecord: Hashable, Sendable, Codable {
    /// The highest term that this agent ever saw in use; 0 before the first. An arbiter that knows less has forgotten
    /// (I11).
    public var seen: Term
    /// The register that was last won or read. Without an arbiter this is the register.
    public var register: Register?
    /// True while the standby was promised that nothing leaves here alone before it is confirmed off (I31); nil else.
    public var waits: Bool?

    public init(seen: Term = Term(0), register: Register? = nil, waits: Bool? = nil) {
        self.seen = seen
        self.register = register
        self.waits = waits
    }
}

/// What the primary asks of a node: to be the standby of one session. Its members travel in the `offer` message.
public struct SessionOffer: Hashable, Sendable, Codable {
    public var session: SessionID
    /// The term of the register under which the offer is made: mode `solo`, owned by `primary`.
    public var term: Term
    public var lineage: Lineage
    public var level: Level
    public var primary: NodeName
    /// The primary's promise, without an arbiter: should it lose this standby, it lets nothing out in this lineage before
    /// the standby is confirmed off (I31).
    public var waits: Bool

    public init(
        session: SessionID, term: Term, lineage: Lineage, level: Level, primary: NodeName, waits: Bool = false
    ) {
        self.session = session
        self.term = term
        self.lineage = lineage
        self.level = level
        self.primary = primary
        self.waits = waits
    }
}

/// A peer that is to be made sure to be off, and which answer counts: an answer to an earlier asking is none (I30).
struct FencingRequest: Sendable, Equatable {
    var peer: NodeName
    var nonce: Nonce
}

/// Numbers that must never come twice, drawn from one seed (SplitMix64). They need not be secret: whoever could guess
/// them would have to hold a node's key as well.
struct RandomSource: Sendable, Equatable {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// Never 0.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        mixed ^= mixed >> 31
        return mixed == 0 ? 1 : mixed
    }
}

extension Level {
    /// Output waits for the acknowledgement of its epoch. Where it does not, it flows as long as a lease lives, and who takes
    /// over waits for the end of that and starts the guest from its disks.
    public var holdsOutput: Bool { self == .system }
}

extension Term {
    /// The term of the change that follows this one.
    var next: Term { Term(number + 1) }
    /// How far a forced takeover jumps ahead, so that what the other side did meanwhile on its own stays behind it.
    static let forcedStep: UInt64 = 1000
}

extension Register {
    /// This register with `node` running the guest alone, one term on.
    func solo(owner node: NodeName, term: Term) -> Register {
        var next = self
        next.term = term
        next.owner = node
        next.mode = .solo
        next.session = .none
        next.standby = nil
        return next
    }
}
