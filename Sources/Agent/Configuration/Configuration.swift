import Fencing
import Journal
import Logging
import Model
import Pair
import Protocol

/// What `romulusd.yaml` says, checked: every value has its type and range, and names refer to what exists in the file.
///
/// `Configuration/` owns the form of the file (`deploy/romulusd.yaml` shows every key with its default) and knows
/// nothing of how the agent uses it. Files other than the configuration itself are looked at by `report(path:)` only.
public struct Configuration: Sendable, Equatable {
    /// The name of this host, as the peers' files and the certificate have it.
    public var node: NodeName
    /// Where the link from the other hosts is awaited.
    public var listen: HostPort
    /// Where heartbeats of the other hosts are awaited besides; nil when `listen` covers that.
    public var heartbeatListen: HostPort?
    public var tls: TLS
    /// The other hosts by name; for a witness, the hosts that may use it.
    public var peers: [NodeName: Peer]
    /// Who decides which host may run a VM; nil leaves that to the operator.
    public var arbiter: ArbiterKind?
    /// Makes this machine a witness, which runs no VMs.
    public var witness: Witness?
    /// Resets this host when its agent stands still; nil leaves it alone.
    public var watchdog: Watchdog?
    public var api: API
    /// Where `/metrics` is served over TCP; nil serves it on the API socket only.
    public var metricsListen: HostPort?
    public var stateDirectory: String
    public var runtimeDirectory: String
    /// Where the replicas' memory lies: a tmpfs with room for the guests.
    public var memoryDirectory: String
    public var defaults: Defaults
    public var detection: Detection
    /// How much of the time line is kept.
    public var journal: JournalLimits
    public var qemu: QEMU
    public var libvirt: LibvirtPlace
    public var vms: [VMName: VM]
    public var logLevel: Logger.Level

    /// Paths of PEM files.
    public struct TLS: Sendable, Equatable {
        public var ca: String
        public var certificate: String
        public var key: String

        public init(ca: String, certificate: String, key: String) {
            self.ca = ca
            self.certificate = certificate
            self.key = key
        }
    }

    public struct Peer: Sendable, Equatable {
        public var address: HostPort
        /// Its address in another network, for heartbeats only.
        public var heartbeatAddress: HostPort?
        /// What the replication of one VM to it is spread over.
        public var connections: Int
        /// What makes sure that it is off; nil leaves that to the operator.
        public var fence: FenceCommand?

        public init(
            address: HostPort, heartbeatAddress: HostPort? = nil, connections: Int = 1, fence: FenceCommand? = nil
        ) {
            self.address = address
            self.heartbeatAddress = heartbeatAddress
            self.connections = connections
            self.fence = fence
        }
    }

    public enum ArbiterKind: Sendable, Equatable {
        /// A witness and the node name in its certificate.
        case witness(address: HostPort, node: NodeName)
        case etcd(Etcd)
    }

    public struct Etcd: Sendable, Equatable {
        /// URLs without a path, all `https` with `tls` and all `http` without.
        public var endpoints: [String]
        /// The part of the keys that tells several groups of hosts apart.
        public var cluster: String
        public var tls: TLS?

        public init(endpoints: [String], cluster: String, tls: TLS? = nil) {
            self.endpoints = endpoints
            self.cluster = cluster
            self.tls = tls
        }
    }

    public struct Witness: Sendable, Equatable {
        public var listen: HostPort
        /// Which hosts may own a VM and ask about it; all may for VMs that are not named.
        public var rights: [VMName: Set<NodeName>]

        public init(listen: HostPort, rights: [VMName: Set<NodeName>] = [:]) {
            self.listen = listen
            self.rights = rights
        }
    }

    public struct API: Sendable, Equatable {
        public var socket: String
        /// The group that may use the socket, besides root.
        public var group: String?

        public init(socket: String, group: String? = nil) {
            self.socket = socket
            self.group = group
        }
    }

    public struct Defaults: Sendable, Equatable {
        public var epochMilliseconds: Int
        public var level: Level
        /// How far a VM falls by itself, and when.
        public var degrade: Degrade
        /// Whether a standby that was lost is replaced without being asked to.
        public var reprotection: PrimaryMachine.Reprotection
        /// What a primary without an arbiter does when its standby is lost.
        public var standbyLost: PrimaryMachine.LonelyPolicy
        /// Whether a guest whose checkpoint does not load at a failover is booted from its disk.
        public var coldBoot: Bool
        /// How long a standby may be lost, in seconds, before one in reserve takes its place.
        public var replaceAfter: Int
        /// The longest epoch of a guest that hardly works.
        public var idleEpochMilliseconds: Int
        /// An epoch ends when its first output is held.
        public var checkpointsOnOutput: Bool
        /// The largest share of a guest's work that pauses because of its output may cost, in percent.
        public var pauseBudget: Int
        /// Checkpoints come before whatever else the host computes.
        public var isRealTime: Bool
        /// Whether this host's processors are kept awake during checkpoints.
        public var isAwake: Bool
        /// How long the memory of a replica that was given up is kept, so that the next one need not be sent whole; 0 keeps
        /// none.
        public var keepMemoryMinutes: Int
        /// The most that a VM's replication may send, in megabits per second; nil is as much as the link takes.
        public var linkCapMegabits: Int?
        /// The most memory for what a VM's pages are compared with, in MiB; nil is as much as the guest writes.
        public var referenceMebibytes: Int?
        /// How often a guest that dies is started again where it ran.
        public var restarts: RestartBudget
        /// A guest hangs whose agent, which answered, does not for so long; 0: it is not asked.
        public var agentSilenceSeconds: Int
        /// What is done when a disk of the primary's fails.
        public var diskFaults: DiskFaultPolicy
        /// Disks that keep a checkpoint waiting for longer hang.
        public var diskTimeoutMilliseconds: Int
        /// A disk that is served is lost when it takes longer for a request.
        public var diskBoundMilliseconds: Int
        /// How often one that was lost is tried to be rejoined; 0: never by itself.
        public var diskRejoinSeconds: Int

        public init(
            epochMilliseconds: Int, level: Level, degrade: Degrade, reprotection: PrimaryMachine.Reprotection,
            standbyLost: PrimaryMachine.LonelyPolicy, coldBoot: Bool, idleEpochMilliseconds: Int,
            checkpointsOnOutput: Bool,
            pauseBudget: Int, isRealTime: Bool, isAwake: Bool, keepMemoryMinutes: Int, linkCapMegabits: Int?,
            referenceMebibytes: Int?, replaceAfter: Int, restarts: RestartBudget, agentSilenceSeconds: Int,
            diskFaults: DiskFaultPolicy, diskTimeoutMilliseconds: Int, diskBoundMilliseconds: Int,
            diskRejoinSeconds: Int
        ) {
            self.epochMilliseconds = epochMilliseconds
            self.level = level
            self.degrade = degrade
            self.reprotection = reprotection
            self.standbyLost = standbyLost
            self.coldBoot = coldBoot
            self.idleEpochMilliseconds = idleEpochMilliseconds
            self.checkpointsOnOutput = checkpointsOnOutput
            self.pauseBudget = pauseBudget
            self.isRealTime = isRealTime
            self.isAwake = isAwake
            self.keepMemoryMinutes = keepMemoryMinutes
            self.linkCapMegabits = linkCapMegabits
            self.referenceMebibytes = referenceMebibytes
            self.replaceAfter = replaceAfter
            self.restarts = restarts
            self.agentSilenceSeconds = agentSilenceSeconds
            self.diskFaults = diskFaults
            self.diskTimeoutMilliseconds = diskTimeoutMilliseconds
            self.diskBoundMilliseconds = diskBoundMilliseconds
            self.diskRejoinSeconds = diskRejoinSeconds
        }
    }

    public struct Degrade: Sendable, Equatable {
        public var policy: DegradePolicy
        public var afterMilliseconds: Int
        /// 0: missed targets do not count.
        public var targetSeconds: Int
        public var retrySeconds: Int

        public init(policy: DegradePolicy, afterMilliseconds: Int, targetSeconds: Int, retrySeconds: Int) {
            self.policy = policy
            self.afterMilliseconds = afterMilliseconds
            self.targetSeconds = targetSeconds
            self.retrySeconds = retrySeconds
        }
    }

    public struct Detection: Sendable, Equatable {
        /// How often each side says that it is there.
        public var heartbeatMilliseconds: Int
        /// How long the other side may say nothing, at most, before it counts as lost.
        public var silenceMilliseconds: Int
        /// Of `silenceFloorMilliseconds`, where nothing else is said; docs/DETECTION.md has its measurement.
        static let floorMilliseconds = 300
        /// The least silence that is borne, however regularly the other side was heard.
        public var silenceFloorMilliseconds: Int

        /// Whether probes in the guests' networks tell one that is cut.
        public var probesNetworks: Bool

        public init(
            heartbeatMilliseconds: Int, silenceMilliseconds: Int, silenceFloorMilliseconds: Int,
            probesNetworks: Bool = true
        ) {
            self.probesNetworks = probesNetworks
            self.heartbeatMilliseconds = heartbeatMilliseconds
            self.silenceMilliseconds = silenceMilliseconds
            self.silenceFloorMilliseconds = silenceFloorMilliseconds
        }
    }

    public struct QEMU: Sendable, Equatable {
        /// The program for standby QEMUs; nil takes the one that the primary runs, by the same path.
        public var binary: String?
        /// Whether standby QEMUs run in QEMU's own seccomp sandbox even if the primary does not.
        public var sandbox: Bool

        public init(binary: String? = nil, sandbox: Bool) {
            self.binary = binary
            self.sandbox = sandbox
        }
    }

    /// Which libvirt runs guests on this host.
    public struct LibvirtPlace: Sendable, Equatable {
        public var uri: String
        /// Where second monitors are made.
        public var monitorDirectory: String

        public init(uri: String = "qemu:///system", monitorDirectory: String = "/var/lib/libvirt/qemu/channel") {
            self.uri = uri
            self.monitorDirectory = monitorDirectory
        }
    }

    public struct VM: Sendable, Equatable {
        /// The monitor socket, when this host is the primary.
        public var qmp: String?
        /// The peers that are to take over, when this host is the primary: the first one, the others are in reserve.
        public var standbys: [NodeName]
        public var standby: NodeName? { standbys.first }
        /// How long its standby may be lost, in seconds, before one in reserve takes its place.
        public var replaceAfter: Int
        /// What the file says of it; nil when it says nothing.
        public var protect: Desire?
        public var level: Level
        /// Nil: as the defaults say.
        public var degrade: DegradePolicy?
        public var epochMilliseconds: Int
        /// What its epochs are fitted to.
        public var goal: EpochGoal?
        /// The most that its replication may send, in megabits per second; nil is as much as the link takes.
        public var linkCapMegabits: Int?
        /// Among the guests of a lost host that are started here.
        package var startOrder: StartOrder
        /// Nil: as the defaults say.
        public var agentSilenceSeconds: Int?
        /// What is different when this host is the standby.
        public var whenStandby: Standby

        /// Of a VM that has none of its own.
        static let usualOrder = StartOrder(place: 100, delaySeconds: 0)

        public init(
            qmp: String? = nil, standbys: [NodeName] = [], replaceAfter: Int = 60, protect: Desire? = nil, level: Level,
            degrade: DegradePolicy? = nil, epochMilliseconds: Int, goal: EpochGoal? = nil, linkCapMegabits: Int? = nil,
            startPlace: Int? = nil, startDelaySeconds: Int = 0, agentSilenceSeconds: Int? = nil,
            whenStandby: Standby = Standby()
        ) {
            self.qmp = qmp
            self.standbys = standbys
            self.replaceAfter = replaceAfter
            self.protect = protect
            self.level = level
            self.degrade = degrade
            self.epochMilliseconds = epochMilliseconds
            self.goal = goal
            self.linkCapMegabits = linkCapMegabits
            startOrder = StartOrder(
                place: startPlace ?? Self.usualOrder.place, delaySeconds: startDelaySeconds)
            self.agentSilenceSeconds = agentSilenceSeconds
            self.whenStandby = whenStandby
        }
    }

    /// How the standby's command line differs from the primary's, on this host. Option lines are what
    /// `romulus standby-command` prints: the option, a space, its value.
    public struct Standby: Sendable, Equatable {
        /// By the disk's name (drive id, node name or device id): its image here.
        public var disks: [String: Disk] = [:]
        /// By the netdev's id: the tap interface here.
        public var taps: [String: String] = [:]
        /// By the primary's path: other files (kernel, CD images, firmware) that are elsewhere here.
        public var files: [String: String] = [:]
        /// Option lines for the display; nil leaves the standby without one.
        public var display: [String]?
        /// For example `kvm`; nil keeps what the primary has.
        public var accelerator: String?
        /// Option lines to add.
        public var add: [String] = []
        /// Option lines to leave out, or their beginnings.
        public var remove: [String] = []
        /// In the order of the file.
        public var replace: [Replacement] = []

        public init() {}
    }

    public struct Disk: Sendable, Equatable {
        public enum Format: String, Sendable, CaseIterable { case raw, qcow2 }

        public var path: String
        /// Nil takes the primary's format.
        public var format: Format?

        public init(path: String, format: Format? = nil) {
            self.path = path
            self.format = format
        }
    }

    public struct Replacement: Sendable, Equatable {
        /// An option line, or its beginning up to a comma or space.
        public var match: String
        /// The whole option line that takes its place.
        public var with: String

        public init(match: String, with: String) {
            self.match = match
            self.with = with
        }
    }

    public static let defaultPath = "/etc/romulus/romulusd.yaml"

    /// Reads and checks the file at `path`.
    public static func load(path: String) throws(ConfigurationError) -> Configuration {
        try ConfigurationFile.load(path: path)
    }

    /// Checks `text`; `path` is for the messages only. Touches nothing outside.
    public static func load(_ text: String, path: String) throws(ConfigurationError) -> Configuration {
        try ConfigurationFile.load(text, path: path)
    }
}
