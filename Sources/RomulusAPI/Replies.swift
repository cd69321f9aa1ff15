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
    /// What an event is about. Programs may rely on these words; more may come.
    public struct Kind: RawRepresentable, Codable, Hashable, Sendable {
        public let rawValue: String

        public init(rawValue: String) {
            self.rawValue = rawValue
        }

        public init(from decoder: any Decoder) throws {
            rawValue = try decoder.singleValueContainer().decode(String.self)
        }

        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(rawValue)
        }

        /// A VM entered another `ProtectionState`.
        public static let state = Kind(rawValue: "state")
        /// The session with the other host came or went.
        public static let session = Kind(rawValue: "session")
        /// Something that the guest's QEMU said or did: a shutdown, a reset, its death.
        public static let qemu = Kind(rawValue: "qemu")
        /// A step of a failover.
        public static let failover = Kind(rawValue: "failover")
        /// What somebody asked for through the API.
        public static let request = Kind(rawValue: "request")
        public static let error = Kind(rawValue: "error")
    }

    /// Grows by one with each event of this run of the agent, from 1.
    public var id: UInt64
    public var time: Date
    /// Nil when it concerns the agent as a whole.
    public var vm: VMName?
    public var epoch: UInt64?
    public var term: UInt64?
    public var kind: Kind
    public var message: String

    public init(
        id: UInt64, time: Date, vm: VMName?, epoch: UInt64? = nil, term: UInt64? = nil, kind: Kind, message: String
    ) {
        self.id = id
        self.time = time
        self.vm = vm
        self.epoch = epoch
        self.term = term
        self.kind = kind
        self.message = message
    }
}

/// How the agent itself is.
public struct Health: Codable, Hashable, Sendable {
    /// The configured name of this host.
    public var node: String
    public var version: String
    public var started: Date
    /// Whether a link to each configured peer is up, by name.
    public var peers: [String: Bool]

    public init(node: String, version: String = Romulus.version, started: Date, peers: [String: Bool]) {
        self.node = node
        self.version = version
        self.started = started
        self.peers = peers
    }
}
