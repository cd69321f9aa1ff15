import Disk
import Dispatch
import Fencing
import Leases
import Model
import Protocol
import Registers
import TapDetour

/// What a VM's machine needs from outside to decide: who this host is, whom it asks, and where it remembers.
public struct Custody: Sendable {
    public var node: NodeName
    public var rule: Rule
    /// Nil when the rule is `manual`.
    public var arbiter: (any Arbiter)?
    /// For levels whose output is not held; nil without an arbiter.
    package var leases: Leases?
    /// What watches the ways to the network, for level `component`; nil where nothing is carried.
    package var uplinks: Uplinks?
    public var reprotection: PrimaryMachine.Reprotection
    /// The peers for which a fence command is configured.
    public var fences: [NodeName: PeerFence]
    /// Whether a guest whose checkpoint does not load here at a failover is booted from its disk.
    public var bootsFromDisk: Bool
    /// What this agent remembers of the VM now.
    public var record: LocalRecord
    /// Says which VM the guest is whose QEMU has this identity, and remembers it; blocks. Throws where the guest is not this
    /// host's yet (`isFresh`) and is another VM than the one of that name.
    public var identify: @Sendable (VMIdentity?, _ isFresh: Bool) throws(SessionError) -> VMIdentity
    /// Writes what is to be remembered so that it survives a power cut; blocks.
    public var persist: @Sendable (LocalRecord) throws -> Void
    /// Writes down, so that it survives a power cut, that the primary's copy of the disk of that index is lost, or whole again, in
    /// that history of the guest; blocks.
    public var noteOwner: @Sendable (_ disk: UInt16, _ isLost: Bool, _ lineage: Lineage) throws -> Void = { _, _, _ in }
    /// Nil: every guest is started as soon as it may be.
    public var startTurn: (any StartTurn)?
    /// Where disks are served, and how; nil: nowhere.
    public var serving: ServingPlaces?

    public init(
        node: NodeName, rule: Rule, arbiter: (any Arbiter)?, reprotection: PrimaryMachine.Reprotection,
        fences: [NodeName: PeerFence] = [:], bootsFromDisk: Bool = false, record: LocalRecord,
        identify: @escaping @Sendable (VMIdentity?, _ isFresh: Bool) throws(SessionError) -> VMIdentity,
        persist: @escaping @Sendable (LocalRecord) throws -> Void
    ) {
        self.node = node
        self.rule = rule
        self.arbiter = arbiter
        self.reprotection = reprotection
        self.fences = fences
        self.bootsFromDisk = bootsFromDisk
        self.record = record
        self.identify = identify
        self.persist = persist
    }
}

/// Where durable writes of decisions are made, one after another: they may take milliseconds, and the link's event loop
/// and the epoch thread must not wait for them.
let decisionQueue = DispatchQueue(label: "romulus.decisions", qos: .userInitiated)

/// Runs `body` there, after what waits already: for whoever wants to know whether decisions are still made.
public func onDecisionQueue(_ body: @escaping @Sendable () -> Void) { decisionQueue.async(execute: body) }

extension Custody {
    /// Writes what is to be remembered of `vm`, behind whatever else is to be, and tells when it is on stable storage or why
    /// it is not.
    func remember(_ record: LocalRecord, of vm: VMName, _ told: @escaping @Sendable (SessionError?) -> Void) {
        decisionQueue.async {
            do {
                try persist(record)
                told(nil)
            } catch {
                told(
                    SessionError(
                        .system, "what was decided about \(vm) cannot be kept, so nothing rests on it: \(error)"))
            }
        }
    }
}
