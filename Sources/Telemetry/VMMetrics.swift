import Model

/// Every series of one VM on this host. All carry the label `vm`; `romulus_vm_info` carries `peer` too.
///
/// Made when the agent takes the VM on, removed with `remove()` when it lets go of it. The instruments may be used
/// from any thread.
public struct VMMetrics: Sendable {
    /// Why a VM was failed over to this host.
    public enum FailoverReason: String, Sendable, CaseIterable {
        /// `romulus failover`.
        case `operator`
        /// The primary's agent saw its QEMU die and said so.
        case qemuDied = "qemu_died"
        /// The primary, or the link to it, was lost.
        case primaryLost = "primary_lost"
        /// The guest was moved on purpose.
        case switchover
    }

    /// The part of the agent that an error belongs to.
    public enum Component: String, Sendable, CaseIterable {
        case capture, encode, ship, stage, apply, release, disk, network, qemu, link, agent
    }

    /// What came of a disk that failed at this host.
    public enum DiskFaultOutcome: String, Sendable, CaseIterable {
        /// The standby goes on with the guest.
        case failover
        /// The guest saw it.
        case guest
    }

    /// One histogram per phase of an epoch, in the order in which an epoch goes through them.
    public struct Phases: Sendable {
        public let stop: Histogram
        public let scan: Histogram
        public let copy: Histogram
        public let deviceState: Histogram
        public let resume: Histogram
        public let encode: Histogram
        public let transfer: Histogram
        public let acknowledge: Histogram
        public let release: Histogram
    }

    /// Committed checkpoint bytes by content, as they went into the frames.
    public struct Contents: Sendable {
        public let memory: Counter
        public let disk: Counter
        public let deviceState: Counter
        public let output: Counter
    }

    public let vm: String
    private let registry: Registry

    // `record(_:)` feeds these.
    public let epochsCommitted: Counter
    public let epochsAborted: Counter
    /// How long the guest stood still for one checkpoint.
    public let pause: Histogram
    public let phases: Phases
    public let dirtyPages: Counter
    public let checkpointBytes: Contents
    /// Number of the last committed epoch.
    public let epoch: Gauge
    public let lastCommitTimestamp: Gauge
    /// Size of the device state of the last checkpoint.
    public let deviceStateBytes: Gauge
    /// The last pauses, for percentiles in the status.
    public let recentPauses: RecentValues
    /// Committed epochs per second, for the status.
    public let epochRate: RateMeter
    /// Bytes per second put on the link by epochs, for the status.
    public let linkRate: RateMeter

    // `show(target:)` feeds these.
    private let targetLatency: Gauge
    private let reachedLatency: Gauge
    private let targetOverhead: Gauge
    private let reachedOverhead: Gauge
    private let targetHeld: Gauge

    // The release step feeds these; `recordHold(nanoseconds:)` feeds the first two.
    /// How long output was held.
    public let outputHold: Histogram
    /// The last hold times, for percentiles in the status.
    public let recentHolds: RecentValues
    public let heldOutputBytes: Gauge
    public let heldOutputFrames: Gauge
    public let linkConnections: Gauge
    public let epochsInFlight: Gauge
    private let referenceBytes: Gauge
    public let releasedFrames: Counter
    public let droppedOutputFrames: Counter

    // The link feeds these: all frames of this VM, heartbeats and first copy included.
    public let linkSentBytes: Counter
    public let linkReceivedBytes: Counter
    /// 1 while the session with the other host is up.
    public let peerUp: Gauge
    /// The round-trip time of the link as the kernel knows it, sampled at each scrape.
    public let peerRTT: Histogram
    /// How much silence of the other host is borne, in seconds; 0 without a session.
    public let silenceBorne: Gauge

    // The session feeds these.
    public let role: StateSet
    public let state: StateSet
    public let level: StateSet
    /// 1 while it is below the level that was asked for because it fell, and how often it did.
    public let degraded: Gauge
    public let degrades: Counter
    /// Disks whose copy at this host is lost.
    public let disksLost: Gauge
    /// 1 while it should be protected, whatever is there of it.
    public let desired: Gauge
    public let term: Gauge
    /// Share of the first copy that is done, 0 to 1.
    public let syncProgress: Gauge
    /// Time from the decision to fail over to the guest running here.
    public let failoverDuration: Histogram
    /// Failovers at which the guest was booted from its disk.
    public let coldBoots: Counter
    /// Starts of a guest that died, or whose host did, at a level that promises no more.
    public let restarts: Counter
    /// How often the guest hung, as its watchdog or its agent told.
    public let hangs: Counter
    /// NICs whose frames travel through the other host.
    public let carriedNICs: Gauge
    /// Bytes staged and not yet applied.
    public let stagedBytes: Gauge
    /// Guest pages of first copies that went to the standby, and that it held already.
    public let firstCopySentPages: Counter
    public let firstCopyPresentPages: Counter
    public let verification: VerificationMetrics
    private let failovers: [FailoverReason: Counter]
    private let diskFaults: [DiskFaultOutcome: Counter]
    private let standstills: [String: Histogram]
    private let errors: [Component: Counter]

    /// `peer` is the other host, where one is known; `states` are all names that `state` may be set to.
    public init(vm: VMName, peer: NodeName?, states: [String], registry: Registry) {
        let label = Label("vm", vm.description)
        func with(_ name: String, _ value: String) -> [Label] { [label, Label(name, value)] }
        func phase(_ name: String) -> Histogram { registry.histogram(Families.phase, with("phase", name)) }
        func bytes(_ name: String) -> Counter { registry.counter(Families.checkpointBytes, with("content", name)) }
        self.vm = vm.description
        self.registry = registry

        epochsCommitted = registry.counter(Families.epochs, with("result", "committed"))
        epochsAborted = registry.counter(Families.epochs, with("result", "aborted"))
        pause = registry.histogram(Families.pause, [label])
        phases = Phases(
            stop: phase("stop"), scan: phase("scan"), copy: phase("copy"), deviceState: phase("device_state"),
            resume: phase("resume"), encode: phase("encode"), transfer: phase("transfer"),
            acknowledge: phase("acknowledge"), release: phase("release"))
        dirtyPages = registry.counter(Families.dirtyPages, [label])
        checkpointBytes = Contents(
            memory: bytes("memory"), disk: bytes("disk"), deviceState: bytes("device_state"), output: bytes("output"))
        epoch = registry.gauge(Families.epoch, [label])
        lastCommitTimestamp = registry.gauge(Families.lastCommit, [label])
        deviceStateBytes = registry.gauge(Families.deviceStateBytes, [label])
        targetLatency = registry.gauge(Families.targetLatency, [label])
        reachedLatency = registry.gauge(Families.reachedLatency, [label])
        targetOverhead = registry.gauge(Families.targetOverhead, [label])
        reachedOverhead = registry.gauge(Families.reachedOverhead, [label])
        targetHeld = registry.gauge(Families.targetHeld, [label])
        targetHeld.set(1)
        recentPauses = RecentValues()
        epochRate = RateMeter()
        linkRate = RateMeter()

        outputHold = registry.histogram(Families.outputHold, [label])
        recentHolds = RecentValues()
        heldOutputBytes = registry.gauge(Families.heldBytes, [label])
        heldOutputFrames = registry.gauge(Families.heldFrames, [label])
        referenceBytes = registry.gauge(Families.referenceBytes, [label])
        linkConnections = registry.gauge(Families.linkConnections, [label])
        epochsInFlight = registry.gauge(Families.epochsInFlight, [label])
        releasedFrames = registry.counter(Families.releasedFrames, [label])
        droppedOutputFrames = registry.counter(Families.droppedFrames, [label])

        linkSentBytes = registry.counter(Families.linkSent, [label])
        linkReceivedBytes = registry.counter(Families.linkReceived, [label])
        peerUp = registry.gauge(Families.peerUp, [label])
        peerRTT = registry.histogram(Families.peerRTT, [label])
        silenceBorne = registry.gauge(Families.silenceBorne, [label])

        role = registry.states(Families.role, [label], label: "role", names: ["primary", "standby"])
        state = registry.states(Families.state, [label], label: "state", names: states)
        level = registry.states(Families.level, [label], label: "level", names: Level.allCases.map(\.rawValue))
        disksLost = registry.gauge(Families.disksLost, [label])
        desired = registry.gauge(Families.desired, [label])
        term = registry.gauge(Families.term, [label])
        syncProgress = registry.gauge(Families.syncProgress, [label])
        failoverDuration = registry.histogram(Families.failover, [label])
        coldBoots = registry.counter(Families.coldBoots, [label])
        degraded = registry.gauge(Families.degraded, [label])
        degrades = registry.counter(Families.degrades, [label])
        restarts = registry.counter(Families.restarts, [label])
        hangs = registry.counter(Families.hangs, [label])
        carriedNICs = registry.gauge(Families.carriedNICs, [label])
        stagedBytes = registry.gauge(Families.stagedBytes, [label])
        firstCopySentPages = registry.counter(Families.firstCopyPages, with("result", "sent"))
        firstCopyPresentPages = registry.counter(Families.firstCopyPages, with("result", "present"))
        verification = VerificationMetrics(registry, label)
        failovers = Dictionary(
            uniqueKeysWithValues: FailoverReason.allCases.map { reason in
                (reason, registry.counter(Families.failovers, with("reason", reason.rawValue)))
            })
        diskFaults = Dictionary(
            uniqueKeysWithValues: DiskFaultOutcome.allCases.map { outcome in
                (outcome, registry.counter(Families.diskFaults, with("outcome", outcome.rawValue)))
            })
        standstills = Dictionary(
            uniqueKeysWithValues: ["attach", "detach", "output", "switchover", "frozen"].map { cause in
                (cause, registry.histogram(Families.standstill, with("cause", cause)))
            })
        errors = Dictionary(
            uniqueKeysWithValues: Component.allCases.map { component in
                (component, registry.counter(Families.errors, with("component", component.rawValue)))
            })
        registry.gauge(Families.info, with("peer", peer?.description ?? "")).set(1)
    }

    /// Another host is the other one now.
    public func show(peer: NodeName, insteadOf before: NodeName?) {
        for (name, value) in [(before?.description ?? "", 0), (peer.description, 1)] {
            registry.gauge(Families.info, [Label("vm", vm), Label("peer", name)]).set(value)
        }
    }

    /// Counts one committed checkpoint and everything it cost. Call it once per epoch, when its acknowledgement is in.
    public func record(_ timings: EpochTimings) {
        epochsCommitted.add()
        pause.observe(nanoseconds: timings.pause)
        phases.stop.observe(nanoseconds: timings.stop)
        phases.scan.observe(nanoseconds: timings.scan)
        phases.copy.observe(nanoseconds: timings.copy)
        phases.deviceState.observe(nanoseconds: timings.deviceState)
        phases.resume.observe(nanoseconds: timings.resume)
        phases.encode.observe(nanoseconds: timings.encode)
        phases.transfer.observe(nanoseconds: timings.transfer)
        phases.acknowledge.observe(nanoseconds: timings.acknowledge)
        phases.release.observe(nanoseconds: timings.release)
        dirtyPages.add(timings.dirtyPages)
        checkpointBytes.memory.add(timings.memoryBytes)
        checkpointBytes.disk.add(timings.diskBytes)
        checkpointBytes.deviceState.add(timings.deviceStateSentBytes)
        checkpointBytes.output.add(timings.heldBytes)
        epoch.set(timings.epoch.number)
        referenceBytes.set(timings.referenceBytes)
        deviceStateBytes.set(timings.deviceStateBytes)
        lastCommitTimestamp.set(wallClockSeconds())
        recentPauses.add(timings.pause)
        epochRate.add(1)
        linkRate.add(timings.linkBytes)
    }

    /// Shows what the epochs are fitted to; `reached` is in the goal's unit. Nil without a goal.
    public func show(target goal: EpochGoal?, reached: Double?, isHeld: Bool) {
        var (latency, overhead) = ((0.0, 0.0), (0.0, 0.0))
        switch goal {
        case .latency(let milliseconds)?: latency = (milliseconds / 1000, (reached ?? 0) / 1000)
        case .overhead(let percent)?: overhead = (percent / 100, (reached ?? 0) / 100)
        case nil: break
        }
        targetLatency.set(latency.0)
        reachedLatency.set(latency.1)
        targetOverhead.set(overhead.0)
        reachedOverhead.set(overhead.1)
        targetHeld.set(isHeld ? 1 : 0)
    }

    /// Counts the pages of one first copy.
    public func recordFirstCopy(sentPages: Int, presentPages: Int) {
        firstCopySentPages.add(UInt64(sentPages))
        firstCopyPresentPages.add(UInt64(presentPages))
    }

    /// Counts one checkpoint that was begun and will never be committed.
    public func recordAborted() {
        epochsAborted.add()
    }

    /// Notes how long output was held: from the frame's arrival to its release.
    public func recordHold(nanoseconds: UInt64) {
        outputHold.observe(nanoseconds: nanoseconds)
        recentHolds.add(nanoseconds)
    }

    /// Counts a failover to this host; `nanoseconds` is the time from the decision to the guest running.
    public func recordFailover(_ reason: FailoverReason, nanoseconds: UInt64) {
        failovers[reason]?.add()
        failoverDuration.observe(nanoseconds: nanoseconds)
    }

    public func recordDiskFault(_ outcome: DiskFaultOutcome) { diskFaults[outcome]?.add() }

    /// Notes how long the guest stood still for something else than a checkpoint; `cause` is one of docs/METRICS.md.
    public func recordStandstill(_ cause: String, nanoseconds: UInt64) {
        standstills[cause]?.observe(nanoseconds: nanoseconds)
    }

    /// Counts an error that cost an epoch, a session or a request.
    public func recordError(_ component: Component) {
        errors[component]?.add()
    }

    /// Takes all series of this VM out of the registry.
    public func remove() {
        registry.remove(Label("vm", vm))
    }
}
