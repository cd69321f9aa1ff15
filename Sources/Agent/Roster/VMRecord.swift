import Foundation
import Hypervisor
import LinuxSystem
import Model
import Pair
import Protocol
import RomulusAPI
import Telemetry

/// One VM as this agent knows it.
package struct VMRecord: Sendable {
    package enum Part: Sendable {
        case primary(PrimaryShell)
        case standby(StandbyShell)
        /// Nothing runs for it here any more; what was last known stays readable.
        case none

        var session: AnyObject? {
            switch self {
            case .primary(let session): session
            case .standby(let session): session
            case .none: nil
            }
        }

        /// Asks the session how it is, which takes its lock.
        func view() -> View {
            switch self {
            case .primary(let session): .primary(session.status, session.guest)
            case .standby(let session): .standby(session.status)
            case .none: .none
            }
        }
    }

    /// What a session says of itself at one moment.
    enum View: Sendable {
        case primary(PrimaryStatus, GuestDescription?)
        case standby(StandbyStatus)
        case none
    }

    package let name: VMName
    package var part: Part
    package let role: Role
    /// The other host; nil where none is known.
    package private(set) var peer: NodeName?
    /// In force.
    package private(set) var level: Level
    /// NICs whose frames travel through the other host.
    private var carried: [CarriedNIC] = []
    /// What was asked for beyond that.
    private(set) var dial: DialReport?
    private(set) var diskLoss: [DiskLossReport] = []
    package var term: Term
    package var tuning: EpochTuning
    package let metrics: VMMetrics
    var qmp: String?
    var pid: Int32?
    package var state: ProtectionState
    var since = Date()
    var epoch = Epoch.firstCopy
    package var lastError: String?
    /// Bytes of guest memory and disks, for the progress of the first copy.
    var memoryTotal: UInt64 = 0
    var diskTotal: UInt64 = 0
    /// What the link's counters have counted of this session.
    var linkBytesSent: UInt64 = 0
    var linkBytesReceived: UInt64 = 0
    /// Output that waits for an acknowledgement; nil where that is not this host's.
    var heldBytes: UInt64?
    /// Checkpoints that are taken and not acknowledged; nil likewise.
    var epochsInFlight: UInt64?
    /// What the link to its standby is made of; nil likewise.
    var linkConnections: Int?
    package var recent = RecentEpochs()
    var peerView: PeerView?
    /// How its epochs stand to the goal of their tuning.
    var standing: EpochTimer.Standing?
    /// The last epoch that the standby acknowledged to this host, as its session reported it.
    package var acknowledged: Epoch?
    /// Which VM it is; nil while nobody knows.
    var identity: VMIdentity?
    /// What the operator asked for, where it was by hand.
    package var request: ProtectRequest?
    /// The guest runs here because it was booted from its disk.
    package var coldBoot: ColdBootReport?
    private(set) var desired = DesiredReport(protect: .manual)

    package init(
        name: VMName, part: Part, role: Role, peer: NodeName?, level: Level, term: Term, tuning: EpochTuning,
        metrics: VMMetrics, qmp: String?, pid: Int32?, state: ProtectionState
    ) {
        self.name = name
        self.part = part
        self.role = role
        self.peer = peer
        self.level = level
        self.term = term
        self.tuning = tuning
        self.metrics = metrics
        self.qmp = qmp
        self.pid = pid
        self.state = state
    }

    /// As sentences have it.
    var peerName: String { peer?.description ?? "" }

    package var isActive: Bool { if case .none = part { false } else { true } }

    /// Takes over what its session said of itself.
    mutating func refresh(_ view: View) {
        switch view {
        case .primary(let status, let guest):
            peerView = status.peer
            if let standby = status.standby { show(peer: standby) }
            identity = status.identity ?? identity
            tuning = status.tuning
            standing = status.phase == .protected ? status.standing : nil
            let target = TargetReport(tuning.goal, standing, peer: peerName)
            metrics.show(target: tuning.goal, reached: target?.reached, isHeld: target?.isHeld ?? true)
            epoch = status.acknowledged
            term = status.term
            pid = status.qemuPID
            lastError = status.lastError
            level = status.level
            dial = status.asked == level ? nil : DialReport(asked: status.asked, reason: status.dialReason)
            if status.isDegraded { dial?.isDegraded = true }
            metrics.degraded.set(status.isDegraded ? 1 : 0)
            metrics.level.set(status.asked.rawValue)
            diskLoss = status.diskLosses
            metrics.disksLost.set(Double(diskLoss.count))
            carried = status.carried
            metrics.carriedNICs.set(Double(carried.count))
            if let guest, memoryTotal == 0 {
                memoryTotal = guest.trackedBlocks.reduce(0) { $0 + $1.length }
                diskTotal = guest.disks.filter(\.isReplicated).reduce(0) { $0 + $1.virtualSize }
            }
            metrics.linkSentBytes.add(max(status.linkBytesSent, linkBytesSent) - linkBytesSent)
            metrics.linkReceivedBytes.add(max(status.linkBytesReceived, linkBytesReceived) - linkBytesReceived)
            linkBytesSent = max(status.linkBytesSent, linkBytesSent)
            linkBytesReceived = max(status.linkBytesReceived, linkBytesReceived)
            enter(ProtectionState(status.phase), since: status.since)
            heldBytes = UInt64(status.heldBytes)
            epochsInFlight = status.phase == .protected ? status.epochsInFlight : nil
            linkConnections = status.phase == .protected ? status.linkConnections : nil
            metrics.epochsInFlight.set(Double(epochsInFlight ?? 0))
            metrics.linkConnections.set(Double(linkConnections ?? 0))
            metrics.heldOutputBytes.set(Double(status.heldBytes))
            metrics.heldOutputFrames.set(Double(status.heldFrames))
            metrics.syncProgress.set((status.memoryProgress + status.diskProgress) / 2)
        case .standby(let status):
            peerView = status.peer
            identity = status.identity
            if let known = status.tuning { tuning = known }
            epoch = status.staged
            term = status.term
            pid = status.qemuPID
            qmp = status.qmpPath
            lastError = status.lastError
            enter(ProtectionState(status.phase), since: status.since)
            metrics.stagedBytes.set(Double(status.stagedBytes))
        case .none:
            peerView = nil
            epochsInFlight = nil
            metrics.degraded.set(0)
            linkConnections = nil
            standing = nil
            carried = []
            metrics.carriedNICs.set(0)
            // A guest that nobody has in hand is watched no closer than this.
            if let process = pid, process != 0, !GuestProcess.runs(process) { noteGone(process) }
        }
        metrics.epoch.set(Double(epoch.number))
        metrics.silenceBorne.set(peerView.map { $0.link == .down ? 0 : Double($0.silenceBorne) / 1e9 } ?? 0)
        metrics.peerUp.set([.protected, .stalled, .syncing].contains(state) ? 1 : 0)
    }

    /// What was said last of a guest that ran is not true any more.
    private mutating func noteGone(_ process: Int32) {
        pid = nil
        let isKnown = lastError?.contains("(pid \(process))") ?? false
        if !isKnown {
            lastError = [lastError, "its QEMU (pid \(process)) has ended"].compactMap(\.self).joined(separator: "; ")
        }
        if state == .running { enter(.unprotected, since: Date()) }
    }

    /// Another host is the standby now, or is asked to be.
    private mutating func show(peer next: NodeName) {
        guard next != peer else { return }
        metrics.show(peer: next, insteadOf: peer)
        peer = next
    }

    mutating func show(_ desired: DesiredReport) {
        self.desired = desired
        // What stands in the way of a session is its own to tell.
        if isActive { (self.desired.reason, self.desired.nextTry, self.desired.elsewhere) = (nil, nil, nil) }
        metrics.desired.set(desired.protect == .always ? 1 : 0)
    }

    mutating func enter(_ next: ProtectionState, since entered: Date) {
        guard next != state else { return }
        state = next
        since = entered
        metrics.state.set(next.rawValue)
    }

    func status() -> VMStatus {
        var sync: SyncProgress?
        if state == .syncing, case .primary(let session) = part {
            let status = session.status
            sync = SyncProgress(
                memoryDone: UInt64(status.memoryProgress * Double(memoryTotal)), memoryTotal: memoryTotal,
                diskDone: UInt64(status.diskProgress * Double(diskTotal)), diskTotal: diskTotal)
        }
        let model = EpochModel(learningFrom: recent.timings)
        return VMStatus(
            name: name, role: role, state: state, since: since, level: level, peer: peer, term: term.number,
            epoch: epoch.number, epochMilliseconds: tuning.epochMilliseconds, qmp: qmp, pid: pid == 0 ? nil : pid,
            sync: sync,
            lastEpoch: recent.last.map { EpochReport($0) },
            model: model.flatMap { model in recent.last.map { EpochPrediction(model, $0) } },
            dirtyPages: Percentiles(pages: recent.timings), pause: Percentiles(metrics.recentPauses),
            outputLatency: Percentiles(metrics.recentHolds),
            target: TargetReport(tuning.goal, standing, peer: peerName), epochsPerSecond: metrics.epochRate.perSecond(),
            linkBytesPerSecond: metrics.linkRate.perSecond(), linkCapMegabits: tuning.linkCapMegabits,
            linkConnections: linkConnections, epochsInFlight: epochsInFlight, heldBytes: heldBytes,
            processorSeconds: pid.flatMap { $0 == 0 ? nil : ProcessFiles.processorSeconds(of: $0) },
            peerReport: peerView.map { PeerReport($0) }, lastError: lastError, desired: desired,
            identity: identity, coldBoot: coldBoot, dial: dial,
            diskLoss: diskLoss.isEmpty ? nil : diskLoss,
            carried: carried.isEmpty
                ? nil
                : carried.map { CarriedReport(nic: $0.nic, bridge: $0.bridge, reason: $0.reason, since: $0.since) })
    }
}

extension Percentiles {
    /// Nil while there are no values.
    init?(_ values: RecentValues) {
        guard let found = values.quantiles([0.5, 0.95]) else { return nil }
        self.init(p50: Double(found[0]) / 1e6, p95: Double(found[1]) / 1e6)
    }
}

extension TargetReport {
    /// Nil without a goal.
    init?(_ goal: EpochGoal?, _ standing: EpochTimer.Standing?, peer: String) {
        // A standing from before the goal was changed says nothing of it.
        let standing = standing?.goal == goal ? standing : nil
        let reason = standing?.obstacle.map { Self.words(of: $0, peer) }
        switch goal {
        case .latency(let limit)?:
            self.init(latency: limit, reached: standing?.reached, isHeld: reason == nil, reason: reason)
        case .overhead(let limit)?:
            self.init(overhead: limit, reached: standing?.reached, isHeld: reason == nil, reason: reason)
        case nil: return nil
        }
    }

    private static func words(of obstacle: EpochTimer.Obstacle, _ peer: String) -> String {
        switch obstacle {
        case .answer(let gap, let pause, let transit):
            "an answer may wait \(milliseconds(gap)) ms for the guest to run between two pauses, then \(milliseconds(pause))"
                + " ms for the pause and \(milliseconds(transit)) ms for the way to \(peer) and back"
        case .work(let lost, let tracking, let longest):
            "even an epoch of \(milliseconds(longest)) ms costs more: \(milliseconds(lost)) ms of work lost to its pause and"
                + " \(milliseconds(tracking)) ms to the tracking of what the guest writes"
        case .fitting: "the epochs are still being fitted to the guest"
        }
    }
}

extension PeerReport {
    init(_ view: PeerView) {
        let link: Link =
            switch view.link {
            case .up: .up
            case .stalled: .stalled
            case .down: .down
            }
        self.init(link: link, secondPath: view.secondPath, silenceBorne: Double(view.silenceBorne) / 1e6)
    }
}

extension ProtectionState {
    init(_ phase: SessionPhase) {
        self =
            switch phase {
            case .connecting: .connecting
            case .preparing: .preparing
            case .syncing: .syncing
            case .protected: .protected
            case .stalled: .stalled
            case .handingOver: .handingOver
            case .frozen: .frozen
            case .forked: .forked
            case .peerLost: .peerLost
            case .failingOver: .failingOver
            case .restarting: .restarting
            case .running: .running
            case .failed: .failed
            case .ended: .unprotected
            }
    }
}
