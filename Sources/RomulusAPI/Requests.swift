import FoundationEssentials
import Model

/// Protect a VM that runs on this host.
public struct ProtectRequest: Codable, Hashable, Sendable, TuningRequest {
    /// Its name, or its UUID.
    public var vm: VMName
    /// The monitor socket of its QEMU; nil takes the one that the configuration names for the VM, else that of the QEMU that runs
    /// a guest of its name.
    public var qmp: String?
    /// Where `qmp` is nil: look only at what this one manages.
    public var manager: GuestManager?
    /// The configured name of the host that is to take over; nil takes the configured one.
    public var standby: NodeName?
    /// Nil takes the configured level.
    public var level: Level?
    /// The longest epoch of a guest that works, in milliseconds; nil takes the configured one.
    public var epochMilliseconds: Int?
    /// How long the guest's answers may wait, in milliseconds; nil takes the configured target.
    public var targetLatency: Double?
    /// The share of the guest's work that protection may cost, in percent; nil takes the configured target.
    public var targetOverhead: Double?
    /// In percent; nil takes the configured one.
    public var pauseBudget: Int?
    /// Nil takes the configured one.
    public var linkCapMegabits: Int?
    /// True when the operator says that whoever else the register names for the VM is off, and that its state is given
    /// up; nil is false.
    public var claim: Bool?
    /// Disk images that are missing at the standby are made there, empty; nil is false.
    public var createImage: Bool?

    public init(
        vm: VMName, qmp: String? = nil, manager: GuestManager? = nil, standby: NodeName? = nil, level: Level? = nil,
        epochMilliseconds: Int? = nil,
        targetLatency: Double? = nil, targetOverhead: Double? = nil, pauseBudget: Int? = nil,
        linkCapMegabits: Int? = nil, claim: Bool? = nil, createImage: Bool? = nil
    ) {
        self.vm = vm
        self.qmp = qmp
        self.manager = manager
        self.standby = standby
        self.level = level
        self.epochMilliseconds = epochMilliseconds
        self.targetLatency = targetLatency
        self.targetOverhead = targetOverhead
        self.pauseBudget = pauseBudget
        self.linkCapMegabits = linkCapMegabits
        self.claim = claim
        self.createImage = createImage
    }

    enum CodingKeys: String, CodingKey {
        case vm, qmp, manager, standby, level, claim
        case epochMilliseconds = "epoch_ms"
        case targetLatency = "target_latency_ms"
        case targetOverhead = "target_overhead_percent"
        case pauseBudget = "pause_budget_percent"
        case linkCapMegabits = "link_cap_mbit"
        case createImage = "create_image"
    }
}

/// Ask both hosts whether a VM can be protected, and change nothing.
public struct CheckRequest: Codable, Hashable, Sendable {
    public var vm: VMName
    /// The monitor socket of its QEMU; nil takes the one that the agent knows.
    public var qmp: String?
    /// Nil takes the configured host, or the only peer.
    public var standby: NodeName?
    /// As of `ProtectRequest`.
    public var createImage: Bool?

    public init(vm: VMName, qmp: String? = nil, standby: NodeName? = nil, createImage: Bool? = nil) {
        self.vm = vm
        self.qmp = qmp
        self.standby = standby
        self.createImage = createImage
    }

    enum CodingKeys: String, CodingKey {
        case vm, qmp, standby
        case createImage = "create_image"
    }
}

/// What stands in the way of protecting a VM.
public struct CheckReport: Codable, Hashable, Sendable {
    public struct Finding: Codable, Hashable, Sendable {
        /// The host that it was found at.
        public var host: NodeName
        /// One sentence, with the way out where there is one.
        public var text: String

        public init(host: NodeName, text: String) {
            self.host = host
            self.text = text
        }
    }

    public var vm: VMName
    /// Nil when no host was named and there is more than one peer.
    public var standby: NodeName?
    /// Everything that stands in the way; empty when the VM can be protected.
    public var problems: [Finding]
    /// What does not, and is worth knowing.
    public var notes: [Finding]

    public init(vm: VMName, standby: NodeName?, problems: [Finding], notes: [Finding]) {
        self.vm = vm
        self.standby = standby
        self.problems = problems
        self.notes = notes
    }
}

/// Leave the guest running as if nothing had been.
public struct UnprotectRequest: Codable, Hashable, Sendable {
    public var vm: VMName

    public init(vm: VMName) {
        self.vm = vm
    }
}

/// Let the replica on this host (or on the other, when this one is the primary) become the guest.
public struct FailoverRequest: Codable, Hashable, Sendable {
    public var vm: VMName
    /// The operator's word that the guest does not run at the primary any more, for a primary that cannot be asked.
    public var force: Bool

    public init(vm: VMName, force: Bool = false) {
        self.vm = vm
        self.force = force
    }
}

/// What a request that may wait for its outcome takes.
public enum WaitRange {
    public static let milliseconds = 0...600_000
}

/// Let the guest go on at the other host of its pair, from the state in which it stands still here.
public struct SwitchoverRequest: Codable, Hashable, Sendable {
    public var vm: VMName
    /// How long to wait for the guest to run there, 0 to 600000; nil does not wait.
    public var waitMilliseconds: Int?

    public init(vm: VMName, waitMilliseconds: Int? = nil) {
        self.vm = vm
        self.waitMilliseconds = waitMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case vm
        case waitMilliseconds = "wait_ms"
    }
}

/// Turn the dial of a VM whose guest runs at this host.
public struct DialRequest: Codable, Hashable, Sendable {
    public var vm: VMName
    public var level: Level
    /// How long to wait for the level to be in force, 0 to 600000; nil does not wait.
    public var waitMilliseconds: Int?

    public init(vm: VMName, level: Level, waitMilliseconds: Int? = nil) {
        self.vm = vm
        self.level = level
        self.waitMilliseconds = waitMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case vm, level
        case waitMilliseconds = "wait_ms"
    }
}

/// The operator's word about this host's copy of a guest.
public struct DecisionRequest: Codable, Hashable, Sendable {
    public enum Decision: String, Codable, Hashable, Sendable, CaseIterable {
        /// It runs on here, alone.
        case goOn = "go_on"
        /// It is ended here.
        case giveUp = "give_up"
    }

    public var vm: VMName
    public var decision: Decision

    public init(vm: VMName, decision: Decision) {
        self.vm = vm
        self.decision = decision
    }
}

/// Empty this host of protected VMs, or take back what was moved away.
public struct MaintenanceRequest: Codable, Hashable, Sendable {
    public var isOn: Bool
    /// When it ends: leave the VMs where they are. Nil is false.
    public var stay: Bool?

    public init(isOn: Bool, stay: Bool? = nil) {
        self.isOn = isOn
        self.stay = stay
    }

    enum CodingKeys: String, CodingKey {
        case isOn = "on"
        case stay
    }
}

/// Which QEMU the standby's command line is to be derived from: of a VM that the agent knows, or of a monitor; with both, the
/// monitor's QEMU and what is configured for the VM.
public struct StandbyCommandRequest: Codable, Hashable, Sendable {
    public var vm: VMName?
    /// A monitor socket on this host, for a VM that is not protected yet.
    public var qmp: String?

    public init(vm: VMName? = nil, qmp: String? = nil) {
        self.vm = vm
        self.qmp = qmp
    }
}

/// Which events are wanted. All conditions hold together.
public struct EventQuery: Hashable, Sendable {
    public var vm: VMName?
    /// Empty: all.
    public var kinds: [EventKind]
    /// By the wall clock.
    public var since: Date?
    /// Ids above this one.
    public var after: UInt64
    /// 1 to 1000.
    public var limit: Int
    /// When there are more than `limit`: the newest of them instead of the oldest. Either way they come oldest first.
    public var newest: Bool

    public init(
        vm: VMName? = nil, kinds: [EventKind] = [], since: Date? = nil, after: UInt64 = 0,
        limit: Int = EventQuery.limitRange.upperBound, newest: Bool = false
    ) {
        self.vm = vm
        self.kinds = kinds
        self.since = since
        self.after = after
        self.limit = limit
        self.newest = newest
    }

    public static let limitRange = 1...1000
}
