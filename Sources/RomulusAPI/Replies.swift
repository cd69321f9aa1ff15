import FoundationEssentials
import Model

public struct VMList: Codable, Hashable, Sendable {
    public var vms: [VMStatus]

    public init(_ vms: [VMStatus]) {
        self.vms = vms
    }
}

public struct EventList: Codable, Hashable, Sendable {
    public var events: [Event]

    public init(_ events: [Event]) {
        self.events = events
    }
}

public struct StandbyCommandReply: Codable, Hashable, Sendable {
    /// The command line in shell syntax, one option a line, with comments on what was rewritten and why.
    public var text: String

    public init(_ text: String) {
        self.text = text
    }
}

/// Something that happened to a VM or to the agent.
public struct Event: Codable, Hashable, Sendable {
    public typealias Kind = EventKind

    /// Grows with each event, also over restarts of the agent, which may leave a gap.
    public var id: UInt64
    public var time: Date
    /// Which boot of the host, and the nanoseconds since it: for order and durations, whatever is done to the clock.
    public var bootID: String?
    public var bootNanoseconds: Int64?
    /// Nil when it concerns the agent as a whole.
    public var vm: VMName?
    public var epoch: UInt64?
    public var term: UInt64?
    public var kind: Kind
    public var message: String
    /// The id of the event that led to this one.
    public var cause: UInt64?

    public init(
        id: UInt64, time: Date, bootID: String? = nil, bootNanoseconds: Int64? = nil, vm: VMName?,
        epoch: UInt64? = nil, term: UInt64? = nil, kind: Kind, message: String, cause: UInt64? = nil
    ) {
        self.id = id
        self.time = time
        self.bootID = bootID
        self.bootNanoseconds = bootNanoseconds
        self.vm = vm
        self.epoch = epoch
        self.term = term
        self.kind = kind
        self.message = message
        self.cause = cause
    }

    enum CodingKeys: String, CodingKey {
        case id, time, vm, epoch, term, kind, message, cause
        case bootID = "boot_id"
        case bootNanoseconds = "boot_ns"
    }
}

/// The last chain of decisions about a VM, each with what led to it.
public struct Explanation: Codable, Hashable, Sendable {
    public struct Step: Codable, Hashable, Sendable {
        public var event: Event
        /// Milliseconds since the event that led to this one; nil when that one is not part of the chain.
        public var afterMilliseconds: Double?
        /// True when the host was booted in between, so that only the wall clock tells how long it took.
        public var byWallClock: Bool?

        enum CodingKeys: String, CodingKey {
            case event
            case afterMilliseconds = "after_ms"
            case byWallClock = "by_wall_clock"
        }
    }

    public var vm: VMName
    /// The host whose journal tells it.
    public var node: NodeName
    /// Oldest first.
    public var steps: [Step]

    /// `events` are those of one chain, oldest first.
    public init(vm: VMName, node: NodeName, events: [Event]) {
        self.vm = vm
        self.node = node
        let byID = Dictionary(events.map { ($0.id, $0) }) { $1 }
        steps = events.map { event in
            guard let cause = event.cause.flatMap({ byID[$0] }) else { return Step(event: event) }
            let (milliseconds, byWallClock) = Self.milliseconds(from: cause, to: event)
            return Step(event: event, afterMilliseconds: milliseconds, byWallClock: byWallClock ? true : nil)
        }
    }

    /// How long it took from one event to another, and whether only the wall clock tells.
    public static func milliseconds(from start: Event, to end: Event) -> (Double, byWallClock: Bool) {
        if let boot = start.bootID, boot == end.bootID, let began = start.bootNanoseconds,
            let ended = end.bootNanoseconds
        {
            return (Double(ended - began) / 1e6, false)
        }
        return (end.time.timeIntervalSince(start.time) * 1000, true)
    }
}

/// How the agent itself is.
public struct Health: Codable, Hashable, Sendable {
    /// The configured name of this host.
    public var node: NodeName
    public var version: String
    public var started: Date
    /// Whether a link to each configured peer is up, by name.
    public var peers: [NodeName: Bool]
    /// What the agent has used of the processors.
    public var processorSeconds: Double?

    public init(
        node: NodeName, version: String = Romulus.version, started: Date, peers: [NodeName: Bool],
        processorSeconds: Double? = nil
    ) {
        self.node = node
        self.version = version
        self.started = started
        self.peers = peers
        self.processorSeconds = processorSeconds
    }

    enum CodingKeys: String, CodingKey {
        case node, version, started, peers
        case processorSeconds = "cpu_seconds"
    }
}
