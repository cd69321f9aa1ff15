import FoundationEssentials
import Model

/// What this host is to a VM.
public enum Role: String, Codable, Hashable, Sendable, CaseIterable {
    case primary, standby
}

/// Where the protection of a VM stands, as seen by the host that answers.
public enum ProtectionState: String, Codable, Hashable, Sendable, CaseIterable {
    /// The guest runs (primary) or does not (standby), and nothing is done for it.
    case unprotected
    /// The session with the other host is being opened.
    case connecting
    /// The guest is examined, the standby's QEMU is started, mirrors and filters are put in place.
    case preparing
    /// The first copy of memory and disks is under way; output flows freely.
    case syncing
    /// Checkpoints are committed and output waits for them.
    case protected
    /// As `protected`, but the guest's QEMU does nothing for the checkpoint that is due: it was stopped, or it hangs.
    case stalled
    /// The guest stands still for a switchover, and the standby was asked to go on with it.
    case handingOver = "handing_over"
    /// The standby is lost, there is no arbiter, and output is held until the operator decides.
    case frozen
    /// Two hosts ran the guest alone: it stands still here until the operator decides.
    case forked
    /// The other host does not answer.
    case peerLost = "peer_lost"
    /// The replica is being brought up as the guest.
    case failingOver = "failing_over"
    /// The guest died at a level that starts it again, and this host is about to.
    case restarting
    /// The guest runs here after a failover, without a standby.
    case running
    /// It should be protected, and there is no QEMU to protect.
    case waiting
    /// Protection ended by an error; `last_error` says which.
    case failed

    /// What `romulus status --check` makes of it.
    public var exitStatus: ExitStatus {
        switch self {
        case .protected: .ok
        case .connecting, .preparing, .syncing, .stalled, .handingOver, .peerLost, .failingOver, .restarting, .waiting:
            .degraded
        case .unprotected, .frozen, .forked, .running, .failed: .unprotected
        }
    }
}

/// How far the first copy is, in bytes.
public struct SyncProgress: Codable, Hashable, Sendable {
    public var memoryDone: UInt64
    public var memoryTotal: UInt64
    public var diskDone: UInt64
    public var diskTotal: UInt64

    public init(memoryDone: UInt64, memoryTotal: UInt64, diskDone: UInt64, diskTotal: UInt64) {
        self.memoryDone = memoryDone
        self.memoryTotal = memoryTotal
        self.diskDone = diskDone
        self.diskTotal = diskTotal
    }

    /// 0 to 1; 0 while the totals are not known.
    public var ratio: Double {
        let total = Double(memoryTotal) + Double(diskTotal)
        guard total > 0 else { return 0 }
        return min((Double(memoryDone) + Double(diskDone)) / total, 1)
    }

    enum CodingKeys: String, CodingKey {
        case memoryDone = "memory_done_bytes"
        case memoryTotal = "memory_total_bytes"
        case diskDone = "disk_done_bytes"
        case diskTotal = "disk_total_bytes"
    }
}

/// Two percentiles over the recent epochs, of times in milliseconds.
public struct Percentiles: Codable, Hashable, Sendable {
    public var p50: Double
    public var p95: Double

    public init(p50: Double, p95: Double) {
        self.p50 = p50
        self.p95 = p95
    }
}

/// How the other host is seen: by the link of the VM's session, and by the second path to it.
public struct PeerReport: Codable, Hashable, Sendable {
    public enum Link: String, Codable, Hashable, Sendable, CaseIterable {
        /// It is heard.
        case up
        /// It was not heard for longer than usual, and its host is heard over the second path.
        case stalled
        case down
    }

    public var link: Link
    /// Whether its agent is heard over the second path; nil where there is none.
    public var secondPath: Bool?
    /// How much silence is borne now, in milliseconds.
    public var silenceBorne: Double

    public init(link: Link, secondPath: Bool?, silenceBorne: Double) {
        self.link = link
        self.secondPath = secondPath
        self.silenceBorne = silenceBorne
    }

    enum CodingKeys: String, CodingKey {
        case link
        case secondPath = "second_path"
        case silenceBorne = "silence_borne_ms"
    }
}

/// How the arbiter answers this host.
public struct ArbiterReport: Codable, Hashable, Sendable {
    /// `witness gamma at 10.0.0.3:7320`.
    public var name: String
    /// False when it does not answer.
    public var isUp: Bool
    /// How long ago it last answered, in milliseconds; nil before it did.
    public var lastAnswer: Double?
    /// Why it did not answer the last question; nil when it did.
    public var reason: String?

    public init(name: String, isUp: Bool, lastAnswer: Double?, reason: String?) {
        self.name = name
        self.isUp = isUp
        self.lastAnswer = lastAnswer
        self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
        case name, reason
        case isUp = "up"
        case lastAnswer = "last_answer_ms"
    }
}

/// That the guest runs without the memory that it had, because no checkpoint of it loaded at a failover.
public struct ColdBootReport: Codable, Hashable, Sendable {
    /// The epoch at whose end its disk stood.
    public var epoch: UInt64
    public var at: Date

    public init(epoch: UInt64, at: Date) {
        self.epoch = epoch
        self.at = at
    }
}

/// Everything an agent tells about one VM.
public struct VMStatus: Codable, Hashable, Sendable {
    public var name: VMName
    public var role: Role
    public var state: ProtectionState
    /// When `state` was entered.
    public var since: Date
    public var level: Level
    /// The other host; nil where none is known.
    @NameOrEmpty public var peer: NodeName?
    public var term: UInt64
    /// The last committed epoch; 0 before the first.
    public var epoch: UInt64
    /// The length of an epoch that was asked for, in milliseconds.
    public var epochMilliseconds: Int
    /// The monitor of the QEMU on this host.
    public var qmp: String?
    /// The QEMU process on this host.
    public var pid: Int32?
    /// Set while `syncing`.
    public var sync: SyncProgress?
    public var lastEpoch: EpochReport?
    /// What the model says of that epoch.
    public var model: EpochPrediction?
    /// Guest pages found written, by epoch.
    public var dirtyPages: Percentiles?
    /// How long the guest stood still per checkpoint, in milliseconds.
    public var pause: Percentiles?
    /// How long output was held, in milliseconds.
    public var outputLatency: Percentiles?
    /// What the epochs are fitted to, and how near they come; nil without a target.
    public var target: TargetReport?
    public var epochsPerSecond: Double
    public var linkBytesPerSecond: Double
    /// The most that its replication may send, in megabits per second; nil is as much as the link takes.
    public var linkCapMegabits: Int?
    /// What the link to its standby is made of; nil where this host is not the primary of a pair.
    public var linkConnections: Int?
    /// Checkpoints that are taken and not acknowledged yet; nil where this host is not the primary of a pair.
    public var epochsInFlight: UInt64?
    /// Output that waits for an acknowledgement now.
    public var heldBytes: UInt64?
    /// What the QEMU process on this host has used of the processors.
    public var processorSeconds: Double?
    /// How the other host is seen; nil without a session.
    public var peerReport: PeerReport?
    /// How the arbiter answers; nil where there is none.
    public var arbiter: ArbiterReport?
    /// The last thing that went wrong, in one sentence.
    public var lastError: String?
    /// What is wanted of its protection; nil from older agents.
    public var desired: DesiredReport?
    /// Which VM it is, beside its name; nil while nobody knows, and from older agents.
    public var identity: VMIdentity?
    /// The guest was booted from its disk at this host, and this agent has had it in hand since; else nil.
    public var coldBoot: ColdBootReport?
    /// The level that was asked for, where it is another than `level`, which is in force; else nil.
    public var dial: DialReport?
    /// Disks whose copy at this host is lost, where the guest runs here; else nil.
    public var diskLoss: [DiskLossReport]?
    /// NICs whose frames travel through the other host; nil where there are none.
    public var carried: [CarriedReport]?

    public init(
        name: VMName, role: Role, state: ProtectionState, since: Date, level: Level, peer: NodeName?, term: UInt64 = 0,
        epoch: UInt64 = 0, epochMilliseconds: Int, qmp: String? = nil, pid: Int32? = nil, sync: SyncProgress? = nil,
        lastEpoch: EpochReport? = nil, model: EpochPrediction? = nil, dirtyPages: Percentiles? = nil,
        pause: Percentiles? = nil, outputLatency: Percentiles? = nil, target: TargetReport? = nil,
        epochsPerSecond: Double = 0, linkBytesPerSecond: Double = 0, linkCapMegabits: Int? = nil,
        linkConnections: Int? = nil, epochsInFlight: UInt64? = nil, heldBytes: UInt64? = nil,
        processorSeconds: Double? = nil, peerReport: PeerReport? = nil, arbiter: ArbiterReport? = nil,
        lastError: String? = nil, desired: DesiredReport? = nil, identity: VMIdentity? = nil,
        coldBoot: ColdBootReport? = nil, dial: DialReport? = nil, diskLoss: [DiskLossReport]? = nil,
        carried: [CarriedReport]? = nil
    ) {
        self.name = name
        self.role = role
        self.state = state
        self.since = since
        self.level = level
        self.peer = peer
        self.term = term
        self.epoch = epoch
        self.epochMilliseconds = epochMilliseconds
        self.qmp = qmp
        self.pid = pid
        self.sync = sync
        self.lastEpoch = lastEpoch
        self.model = model
        self.dirtyPages = dirtyPages
        self.pause = pause
        self.outputLatency = outputLatency
        self.target = target
        self.epochsPerSecond = epochsPerSecond
        self.linkBytesPerSecond = linkBytesPerSecond
        self.linkCapMegabits = linkCapMegabits
        self.linkConnections = linkConnections
        self.epochsInFlight = epochsInFlight
        self.heldBytes = heldBytes
        self.processorSeconds = processorSeconds
        self.peerReport = peerReport
        self.arbiter = arbiter
        self.lastError = lastError
        self.desired = desired
        self.identity = identity
        self.coldBoot = coldBoot
        self.dial = dial
        self.diskLoss = diskLoss
        self.carried = carried
    }

    /// What `romulus status --check` makes of it among all VMs of a host: what nobody wants protected does not count.
    public var exitStatusAmongAll: ExitStatus {
        state == .unprotected && desired?.protect == .manual ? .ok : exitStatus
    }

    /// What `romulus status --check` makes of it: a VM that nobody could take over is not well; one whose guest another host
    /// has is that host's to tell of.
    public var exitStatus: ExitStatus {
        if state == .waiting, desired?.elsewhere != nil { return .ok }
        if state.exitStatus == .ok, arbiter?.isUp == false { return .degraded }
        return state.exitStatus
    }

    enum CodingKeys: String, CodingKey {
        case name, role, state, since, level, peer, term, epoch, qmp, pid, sync, model, target, arbiter, desired,
            identity, dial, carried
        case diskLoss = "disk_loss"
        case epochMilliseconds = "epoch_ms"
        case lastEpoch = "last_epoch"
        case dirtyPages = "dirty_pages"
        case pause = "pause_ms"
        case outputLatency = "output_latency_ms"
        case epochsPerSecond = "epochs_per_second"
        case linkBytesPerSecond = "link_bytes_per_second"
        case linkCapMegabits = "link_cap_mbit"
        case linkConnections = "link_connections"
        case epochsInFlight = "epochs_in_flight"
        case heldBytes = "held_bytes"
        case processorSeconds = "qemu_cpu_seconds"
        case peerReport = "peer_report"
        case lastError = "last_error"
        case coldBoot = "cold_boot"
    }
}

extension VMStatus {
    /// The other host, as people read it.
    public var peerName: String { peer?.description ?? "" }
}
