import Model
import Pair
import Protocol
import Wire

/// One host: what survives its agent, and what does not.
final class Host {
    let index: HostIndex
    let name: NodeName
    var other: HostIndex { 1 - index }

    // survives everything
    var durable = LocalRecord()
    /// Which QEMU process is ours, and of which lineage: written with the record.
    var tag: (guest: Int, lineage: Lineage)?

    // survives the agent
    var isPowered = true
    var guest: Guest?
    var replica: Replica?
    /// The guests' bridge has a network.
    var hasUplink = true
    /// Its disk fails.
    var diskIsBroken = false
    /// Its copy of the guest's disk lacks what was acknowledged; of a guest that does not live here.
    var copyIsBehind = false
    /// What it wrote down of the copies at the other host.
    var owners = OwnersCopies()
    /// For mutants: a gate stood before its guest, and was taken away.
    var hadGate = false
    /// For mutants: its guest is below the level that was asked for.
    var hasFallen = false
    /// The last step that its guest sent out without waiting for an acknowledgement.
    var lastFree = -1

    /// When its guest was stopped for a switchover; nil when nothing keeps it standing for one.
    var stoodSince: Int?

    // the agent's own
    var isUp = true
    /// Counts starts of the agent; whatever was under way for an earlier one is gone.
    var life = 0
    var stalledUntil = 0
    /// What came for the agent while it stood still.
    var deferred: [AgentWork] = []
    var actionsUntilCrash = -1
    var downMilliseconds = 0
    /// CLOCK_BOOTTIME.
    var clock = SimClock(rate: 1_000_000, reading: 0, at: 0)
    var lease = LeaseMachine(seed: 0)
    /// When a timer of the lease comes.
    var leaseArmedAt: Int?
    /// For a mutant: the newest question of the lease.
    var newestQuestion: UInt64 = 0
    var primary: PrimaryDuty?
    var primaryState: PrimaryMachine.State? { primary?.machine.state }
    /// A session with a standby is under way, from the dialling of its link on.
    var isServing = false
    /// Of the checkpoints of that session, as they were sent.
    var digests: [CheckpointDigest] = []
    var standby: StandbyDuty?
    var standbyState: StandbyMachine.State? { standby?.machine.state }
    var unwritten: [LocalRecord] = []
    /// The register was won while this life lasted, by claim or by takeover (I14).
    var hasClaimed = false
    var link = -1
    /// The newest link on which an offer came.
    var newestOffer = -1
    var lastWrite = 0
    var session = SessionID.none
    /// The link on which each offer that is not answered yet came.
    var offers: [(session: SessionID, link: Int)] = []
    var sealed = Epoch.firstCopy
    var held: [(epoch: Epoch, packet: Int)] = []
    var copyIsDone = false
    /// The guest's memory and output travel by epochs.
    var isByEpochs = false
    /// Its part, and the standby's, of leading a NIC through the other host.
    var carry: SimCarry?
    var port: SimPort?
    /// A gate is to stand before the guest as soon as a lease opens it.
    var isGuarding = false
    /// The epochs whose acknowledgements end the beginning and the end of holding.
    var holdsFrom: Epoch?
    var freesAfter: Epoch?
    /// Writes for the standby's disks that came and are not in them yet.
    var writes: [Int] = []
    var question = 0
    /// When the arbiter was last heard, in this life; -1 before.
    var answeredAt = -1
    /// When a switchover was asked for here, and when the other host asked for one.
    var switchAskedAt = 0
    var handOverAskedAt = 0
    /// Readings of the register, one after the other.
    var readings = 0
    /// What the standby's apply thread has to do; the first is under way.
    var work: [StandbyDuty.Work] = []
    /// The standby's image was found after a restart.
    var isRecovered = false
    var resumeFails = false
    var losesImage = false
    /// A command of the operator is being carried out that may destroy the last copy.
    var isTold = false
    /// The operator's word that this host shall go on.
    var isForced = false
    /// What is being done to make sure that the other host is off.
    var fencing: Fencing?
    var fencingFailures = 0
    /// Once, in any life: what a shell must not remember.
    var hasConfirmation = false
    /// When the host was last seen off.
    var lastOff = -1

    struct Fencing {
        var nonce: Nonce
        var askedAt: Int
    }

    init(_ index: HostIndex) {
        self.index = index
        name = NodeName(unchecked: index == 0 ? "alpha" : "beta")
    }

    func isAwake(at time: Int) -> Bool { isPowered && isUp && stalledUntil <= time }

    /// What the agent had in its memory is gone.
    func forgetLife() {
        life += 1
        isUp = false
        stalledUntil = 0
        deferred = []
        actionsUntilCrash = -1
        (primary, standby) = (nil, nil)
        unwritten = []
        hasClaimed = false
        link = -1
        session = .none
        (isServing, digests) = (false, [])
        offers = []
        newestOffer = -1
        (sealed, held, copyIsDone) = (.firstCopy, [], false)
        (carry, port) = (nil, nil)
        (isByEpochs, isGuarding, holdsFrom, freesAfter) = (false, false, nil, nil)
        (writes, leaseArmedAt) = ([], nil)
        (question, readings, answeredAt) = (0, 0, -1)
        stoodSince = nil
        work = []
        (fencing, fencingFailures) = (nil, 0)
        isTold = false
        if let replica {
            // Frames of epochs that are not whole lie in slots that nobody completes any more.
            self.replica?.slots = replica.slots.filter { $0.isComplete }
            self.replica?.outputs.removeAll { $0.epoch > replica.staged }
        }
    }
}
