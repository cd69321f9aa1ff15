import Foundation
import GuestNetwork
import Hypervisor
import Model
import Protocol
import Standby

/// What a session tells its agent, from any thread.
public enum SessionReport: Sendable {
    /// Something an operator may want to read later.
    case event(_ kind: EventKind, _ message: String)
    case failure(SessionError)
    /// Something was decided that may show in the session's status, and is no news for the journal.
    case moved
    case acknowledged(Epoch)
    /// An epoch was acknowledged, and its output has left: what it cost.
    case epoch(EpochTimings)
    /// The guest's memory was looked at for the first copy: pages that were sent, and pages with contents that the standby
    /// held already. What the guest writes meanwhile is not counted.
    case memoryCopied(sentPages: Int, presentPages: Int)
    /// The guest stood still because of us, for something else than a checkpoint or for an uncommonly long one.
    case stoodStill(Standstill)
    /// Output left the gate.
    case released([ReleasedOutput])
    /// Held output was given up, because its epoch never became whole at the standby.
    case dropped(frames: Int)
    /// A disk of the guest failed at this host: the standby goes on with it, or the guest sees it.
    case diskFault(isFailover: Bool)
    /// The guest hangs.
    case guestHung(GuestHang)
    /// The guest was resumed on this host.
    case tookOver(TakeOverReport, TakeOverCause, reason: String)
    /// The guest was found: its QEMU, and the history that it carries.
    case found(pid: Int32, lineage: Lineage)
    /// The guest died here, and was started here again, under this register: another session goes on with it, and no `ended`
    /// follows.
    case restarted(StartedGuest, Register)
    /// The guest runs here from now on, and who may run it is known. `starts`: how often it was started where it ran before, which
    /// could not start it again; 0 where that is not why.
    case becamePrimary(Register, starts: Int)
    /// Another host goes on with the guest; this one may be its standby.
    case gaveWay(LocalRecord)
    /// The session is over and cleaned up.
    case ended(_ reason: String)
}

/// How it was found that a guest hangs.
public enum GuestHang: Sendable, Equatable {
    /// Its watchdog device found it; what QEMU does about that, in its word.
    case watchdog(action: String)
    /// The agent in it did not answer any more for so long; it was reset.
    case agentSilent(seconds: UInt64)
}

/// A guest that was started here from its disks, in the place of one that died.
public struct StartedGuest: Sendable {
    public var pid: Int32
    /// Where its monitor is.
    public var monitorPath: String
    /// From the decision until it ran, in nanoseconds.
    public var duration: UInt64 = 0

    public init(pid: Int32, monitorPath: String) {
        self.pid = pid
        self.monitorPath = monitorPath
    }
}

/// Where a session is; the words are those of the API.
public enum SessionPhase: String, Sendable, Codable {
    case connecting, preparing, syncing, protected, stalled, handingOver, frozen, forked, peerLost, failingOver
    case restarting, running, failed, ended

    /// What the machine's state alone says; nil where it depends on more.
    init?(_ state: PrimaryMachine.State) {
        switch state {
        case .handingOver: self = .handingOver
        case .frozen: self = .frozen
        case .forked: self = .forked
        default: return nil
        }
    }
}

/// How a change of host that was asked for stands.
public enum Switchover: Sendable, Equatable {
    case underWay, done
    case failed(_ reason: String)
}

/// What led a standby to go on with the guest.
public enum TakeOverCause: Sendable {
    /// The primary's agent saw its QEMU die and said so.
    case guestDied
    /// The primary, or the link to it, was lost.
    case primaryLost
    /// The guest stood still at the primary and was handed over.
    case switchover
    /// The operator said so.
    case `operator`
}

public struct StandbyStatus: Sendable {
    public var phase: SessionPhase
    /// When `phase` was entered.
    public var since: Date
    public var staged = Epoch.firstCopy
    public var applied = Epoch.firstCopy
    public var term = Term(0)
    public var firstCopyBytes: UInt64 = 0
    public var stagedBytes = 0
    public var lastError: String?
    public var qemuPID: Int32 = 0
    public var qmpPath = ""
    /// How the guest's epochs are tuned at the primary; nil before it said so.
    public var tuning: EpochTuning?
    /// How the primary is seen; nil before the first look.
    public var peer: PeerView?
    /// Which VM it is, as the primary said; nil where that is older.
    public var identity: VMIdentity?
    /// Its memory is not here: it is started from its disks, or was.
    public var startsFromDisk = false
    /// Of its memory.
    public var guestBytes: UInt64 = 0

    init(_ phase: SessionPhase, since: Date) {
        self.phase = phase
        self.since = since
    }
}

public struct PrimaryStatus: Sendable {
    public var phase = SessionPhase.connecting
    /// When `phase` was entered.
    public var since = Date()
    public var sealed = Epoch.firstCopy
    public var acknowledged = Epoch.firstCopy
    /// Checkpoints that are taken and not acknowledged yet.
    public var epochsInFlight: UInt64 { sealed.number - min(acknowledged.number, sealed.number) }
    /// Connections that its link is made of; 0 without one.
    public var linkConnections = 0
    public var term = Term(0)
    /// Of the first copy, 0 to 1.
    public var memoryProgress = 0.0
    public var diskProgress = 0.0
    public var lastError: String?
    public var qemuPID: Int32 = 0
    public var last = EpochTimings()
    public var heldBytes = 0
    public var heldFrames = 0
    public var linkBytesSent: UInt64 = 0
    public var linkBytesReceived: UInt64 = 0
    public var tuning = EpochTuning(epochMilliseconds: 0)
    /// How the epochs stand to the goal of their tuning; nil without one, and before there is something to tell.
    public var standing: EpochTimer.Standing?
    /// How the standby is seen; nil while there is no session.
    public var peer: PeerView?
    /// The standby, or who was last asked to be; nil before the session began.
    public var standby: NodeName?
    /// Which VM it is; nil before its QEMU was found.
    public var identity: VMIdentity?
    /// In force, and what the operator asked for.
    public var level = Level.system
    public var asked = Level.system
    /// Why these differ; nil where they do not, and while the dial is being turned.
    public var dialReason: String?
    /// It fell to the level in force by itself.
    public var isDegraded = false
    /// Disks whose copy at this host is lost.
    package var lostDisks: [LostDisk] = []
    /// NICs whose frames travel through the standby's host.
    public var carried: [CarriedNIC] = []

    public init() {}
}

/// A NIC whose frames travel through the standby's host.
public struct CarriedNIC: Hashable, Sendable {
    /// QEMU's netdev.
    public var nic: String
    public var bridge: String
    public var reason: String
    public var since: Date
}
