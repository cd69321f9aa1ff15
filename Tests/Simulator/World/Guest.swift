import Model

/// A fake QEMU with its guest. What the guest did is a chain of steps; each step writes one page group with its own
/// number and sends one packet that carries it.
struct Guest {
    enum Gate {
        /// No filter is in QEMU: packets go straight out.
        case detached
        case flowing
        case holding
        /// Nothing leaves any more.
        case closed
    }

    enum Disk {
        /// A write is done when it is done here, and no other copy counts.
        case alone
        /// A write is done when both copies have it.
        case both
        /// A write is done when it is done here, and travels with its epoch.
        case staged
    }

    static let groups = 6
    /// Those that are blocks of its disk; the others are memory.
    static let disk = 4..<groups
    /// Packets that may be held before the guest is kept standing (I19).
    static let heldMax = 96

    var id: Int
    /// The last step.
    var tip: Int
    var memory: [Int]
    /// Bit per page group that was written since the last checkpoint.
    var dirty: UInt64 = 0
    var isAlive = true
    var isRunning = true
    var gate = Gate.detached
    /// The life of the agent that holds the filters' sockets.
    var gateLife = -1
    /// What was claimed for it; nil while it is no business of ours.
    var lineage: Lineage?
    /// The epoch that runs.
    var epoch = Epoch.firstCopy
    var disk = Disk.alone
    /// A write that is not done yet; the guest waits for it.
    var pending: Int?
    /// What the host's kernel has before its NICs.
    var kernelGate: SimKernelGate?
    /// What serves its disk from two copies, where one does.
    var served: SimDiskServer?
    /// Its frames go to the agent, and not to the bridge: as the gate, this outlives the agent.
    var tapIsCarried = false
    /// The operator started it; from images that lacked what was acknowledged, while the other host had all of it.
    var isBooted = false
    var isOld = false
}

/// The standby's copy of a guest, as it lies in the memory directory: it survives the agent, not the host.
struct Replica {
    struct Slot {
        var epoch: Epoch
        var parts = 0
        var isDamaged = false
        var changes: [Change] = []
        var tip = 0
        var isComplete = false
    }

    var session: SessionID
    var identity: StandbyIdentity
    var term: Term
    var lineage: Lineage
    var primary: NodeName
    /// What the primary promised.
    var waits = false
    var memory = [Int](repeating: -1, count: Guest.groups)
    /// What the disks are like.
    var tip = -1
    /// What the memory is like: the newest epoch that is applied.
    var memoryTip = -1
    var copySteps = 0
    var slots: [Slot] = []
    var staged = Epoch.firstCopy
    var applied = Epoch.firstCopy
    /// The guest ran from it, or its QEMU was ended: it is no checkpoint any more.
    var isUsedUp = false
    /// A QEMU waits for it, or has loaded it.
    var hasQEMU = true
    /// What its QEMU has of it, which does not run yet and lives on when the agent dies.
    var loaded: (memory: [Int], tip: Int)?
    /// Held output of committed epochs, until it is known to have left.
    var outputs: [(epoch: Epoch, packet: Int)] = []
    /// What was in it when it asked to take over; of a shell that boots from that.
    var whenAsked: (memory: [Int], tip: Int)?
    /// It asked to take over: nothing may be acknowledged any more (I5).
    var hasAsked = false
}

/// All steps that any guest ever made, as a tree: a step's parent is the state in which it was made.
struct History {
    private var parents: [Int32] = []
    private var depths: [Int32] = []

    /// Adds a step after `parent`, or the first one of a boot with -1.
    mutating func step(after parent: Int) -> Int {
        parents.append(Int32(parent))
        depths.append(parent < 0 ? 0 : depths[parent] + 1)
        return parents.count - 1
    }

    /// True when `later` is `earlier` or came after it.
    func isOnTheWay(_ earlier: Int, to later: Int) -> Bool {
        guard earlier >= 0 else { return true }
        guard later >= 0 else { return false }
        var step = later
        while depths[step] > depths[earlier] { step = Int(parents[step]) }
        return step == earlier
    }

    func isDeeper(_ a: Int, than b: Int) -> Bool { b < 0 || depths[a] > depths[b] }
}
