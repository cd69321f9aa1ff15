import Carriers
import LinuxSystem
import Model
import Protocol

/// What an operator asks for when a VM is protected.
public struct PrimaryOptions: Sendable {
    public var vm: VMName
    public var qmpPath: String
    /// The process that an earlier run of this agent had in hand, and that lives.
    public var foundPID: Int32?
    public var level = Level.system
    /// What of the guest a session carries, where its level wants it: at level `system`, all of it.
    package var carriers = Set(CarrierKind.allCases)
    /// The node that is to be the standby.
    public var standby: NodeName
    /// Who is asked when that one is lost for `replaceAfterSeconds`.
    public var reserve: [NodeName] = []
    public var replaceAfterSeconds = 60
    /// Which VM it is, where its QEMU does not say.
    public var identity: VMIdentity?
    /// What its epochs are to be like at first.
    public var tuning = EpochTuning(epochMilliseconds: 20)
    /// The longest epoch of a guest that hardly works and sends nothing.
    public var idleEpochMilliseconds = 1000
    /// End an epoch when its first output is held.
    public var checkpointsOnOutput = true
    /// The pause budget in percent, where `tuning` has none.
    public var pauseBudget = 25
    /// QEMU's threads that serve a checkpoint, and ours, get real-time priority while the guest is protected.
    public var isRealTime = true
    /// What keeps this host's processors awake during checkpoints; nil lets them sleep.
    public var sleep: ProcessorSleep?
    /// How much silence of the standby is borne: at most and at least.
    public var silenceMilliseconds = 500
    public var silenceFloorMilliseconds = 300
    public var heartbeatMilliseconds = 50
    /// Other ways to the standbys' hosts.
    public var secondPaths: [NodeName: SecondPath] = [:]
    /// The guest's hypervisor may need so long for a checkpoint; after 10 s QEMU counts as lost.
    package var stallMilliseconds = 3000
    public var diskFaults = DiskFaultPolicy.failover
    /// When it falls to a lower level by itself, and the level from which it fell before this session.
    public var degrade = DegradeMachine.Settings.never
    public var degradedFrom: Level?
    /// Disks that keep a checkpoint waiting for longer hang.
    public var diskTimeoutMilliseconds = 5000
    /// How often a disk that was lost is tried to be rejoined; 0: never by itself.
    public var diskRejoinSeconds = 30
    /// A guest hangs whose agent, which answered, does not for so long; 0: it is not asked.
    public var agentSilenceSeconds = 0
    /// Output that may wait for acknowledgements before the guest is kept standing, in bytes.
    public var heldBytesMax = 64 << 20
    /// The most memory that goes into references of the guest's pages, in MiB; nil is as much as the guest writes.
    public var referenceMebibytes: Int?
    public var planted: PlantedFaults = []
    /// Images that are missing at the standby are made there.
    public var createsImages = false
    /// The operator says that whoever else the register names is off.
    public var overridesRegister = false
    /// Whoever else this register names holds nothing of the VM any more, and said so.
    public var yielded: Register?

    /// How epochs are timed with `tuning`.
    func epochs(_ tuning: EpochTuning) -> EpochTimer.Settings {
        EpochTimer.Settings(
            epoch: UInt64(tuning.epochMilliseconds) * 1_000_000, idleEpoch: UInt64(idleEpochMilliseconds) * 1_000_000,
            endsOnOutput: checkpointsOnOutput, pauseBudget: UInt64(tuning.pauseBudget ?? pauseBudget), goal: tuning.goal
        )
    }

    public init(vm: VMName, qmpPath: String, standby: NodeName) {
        self.vm = vm
        self.qmpPath = qmpPath
        self.standby = standby
    }
}

/// How the guest comes to be this host's.
public enum PrimaryOrigin: Sendable {
    /// The operator named it.
    case named
    /// It should be protected, and its QEMU is there. A standby that cannot be had is asked again.
    case wanted
    /// An earlier run of this agent had it.
    case found(Lineage)
    /// It was resumed here from a replica.
    case tookOver(Register)

    public var isNamed: Bool { if case .named = self { true } else { false } }

    /// Whether the guest was not this host's before.
    var isFresh: Bool {
        switch self {
        case .named, .wanted: true
        case .found, .tookOver: false
        }
    }

    /// Whether a guest is ended whose disks were left served and are not known to be whole at this host: the standby of one that
    /// was this host's goes on with it, and nothing was claimed here since. Any other is the operator's.
    package var endsUnservable: Bool { !isFresh }

    /// Whether its disks are asked for again, when nobody could be asked: it may be whole here.
    package func asksAgain(after error: SessionError) -> Bool { endsUnservable && error.code != .storage }

    /// What the operator hears of one that is not ended.
    package func refusal(of vm: VMName, at standby: NodeName, _ pid: Int32, _ reason: String) -> SessionError {
        SessionError(
            .refused,
            "\(vm) cannot be protected, and its QEMU (pid \(pid)) is left as it is: \(reason); end this QEMU, and go on with that"
                + " copy (romulus failover \(vm), at \(standby)) or start the guest anew from the disks that are here")
    }
}
