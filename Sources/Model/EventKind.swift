/// What an event of the journal is about. Programs may rely on these words; more may come.
public struct EventKind: RawRepresentable, Codable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) {
        self.rawValue = rawValue
    }

    public init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(String.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }

    public var description: String { rawValue }
}

/// Decisions: who may run a guest, why, and what came of it. The journal never drops one, and each leads to the next.
extension EventKind {
    /// Somebody asked for something through the API.
    public static let request = EventKind(rawValue: "request")
    /// A host, a link or a guest's QEMU was found lost.
    public static let detected = EventKind(rawValue: "detected")
    /// The primary's view of the same: its standby was found lost.
    public static let standbyLost = EventKind(rawValue: "standby_lost")
    /// The arbiter was asked for the right to run the guest.
    public static let asked = EventKind(rawValue: "asked")
    public static let granted = EventKind(rawValue: "granted")
    public static let refused = EventKind(rawValue: "refused")
    /// An operator's word took the place of the arbiter's.
    public static let forced = EventKind(rawValue: "forced")
    /// The guest runs at this host from now on.
    public static let promoted = EventKind(rawValue: "promoted")
    /// The same, without the guest's memory: it was booted from its disk.
    public static let coldBoot = EventKind(rawValue: "cold_boot")
    /// A guest that died, or whose host did, was started from its disk, at a level that promises no more.
    public static let restarted = EventKind(rawValue: "restarted")
    /// A guest that died here cannot be started here again, and the other host is to start it.
    public static let handedOver = EventKind(rawValue: "handed_over")
    /// The first output left after that.
    public static let firstOutput = EventKind(rawValue: "first_output")
    /// The guest that ran here was silenced: another host has the right to run it.
    public static let fenced = EventKind(rawValue: "fenced")
    /// The command that makes sure that the other host is off was started.
    public static let fencingAsked = EventKind(rawValue: "fencing_asked")
    /// It said that the other host is off.
    public static let fencingConfirmed = EventKind(rawValue: "fencing_confirmed")
    /// It did not: nothing is known of the other host, or it was heard again.
    public static let fencingFailed = EventKind(rawValue: "fencing_failed")
    /// Checkpoints are committed from now on.
    public static let protected = EventKind(rawValue: "protected")
    /// The same, after protection had been lost.
    public static let reProtected = EventKind(rawValue: "re_protected")
    /// Another level was chosen.
    public static let dialled = EventKind(rawValue: "dialled")
    /// It fell to a lower level by itself, because the one that was asked for could not be held, and is at that one again.
    public static let degraded = EventKind(rawValue: "degraded")
    public static let climbed = EventKind(rawValue: "climbed")
    /// A session or a replica came to its end here.
    public static let ended = EventKind(rawValue: "ended")

    public static let decisions: [EventKind] = [
        .request, .detected, .standbyLost, .asked, .granted, .refused, .forced, .promoted, .coldBoot, .restarted,
        .handedOver, .firstOutput, .fenced, .fencingAsked, .fencingConfirmed, .fencingFailed, .protected, .reProtected,
        .dialled,
        .degraded, .climbed, .ended,
    ]
}

/// Information: what an operator may want to read beside the decisions.
extension EventKind {
    /// The guest's watchdog device found that it hangs.
    public static let guestHung = EventKind(rawValue: "guest_hung")
    /// A step within a session, such as the end of the first copy.
    public static let state = EventKind(rawValue: "state")
    /// The session with the other host came or went.
    public static let session = EventKind(rawValue: "session")
    /// What the epochs of a VM are like was changed.
    public static let tuned = EventKind(rawValue: "tuned")
    /// Something that the guest's QEMU said or did: a pause, a reset.
    public static let qemu = EventKind(rawValue: "qemu")
    /// The arbiter was asked and nobody knows its answer: it may have granted what it was asked for, or may yet.
    public static let unanswered = EventKind(rawValue: "unanswered")
    /// A replica's memory was compared with its guest's.
    public static let verified = EventKind(rawValue: "verified")
    /// The arbiter does not answer: whatever it would have to decide waits.
    public static let arbiterLost = EventKind(rawValue: "arbiter_lost")
    public static let arbiterBack = EventKind(rawValue: "arbiter_back")
    /// The guest's QEMU does nothing for a checkpoint that is due, and then does again.
    public static let stalled = EventKind(rawValue: "stalled")
    public static let stallOver = EventKind(rawValue: "stall_over")
    /// The frames of a NIC travel through the other host, and then no more.
    public static let carried = EventKind(rawValue: "carried")
    public static let carriedHome = EventKind(rawValue: "carried_home")
    /// A disk of the guest failed or hangs at the primary's host.
    public static let diskFault = EventKind(rawValue: "disk_fault")
    /// A disk of the primary's host that had been lost has what it lacked.
    public static let diskRejoined = EventKind(rawValue: "disk_rejoined")
    /// Guests that are to be started here when their host is lost would not all have memory, and would again.
    public static let roomShort = EventKind(rawValue: "room_short")
    public static let roomBack = EventKind(rawValue: "room_back")
    public static let error = EventKind(rawValue: "error")
    /// The agent itself was started or stopped.
    public static let agent = EventKind(rawValue: "agent")
    /// About the journal itself: events that were dropped, a file that was set aside.
    public static let journal = EventKind(rawValue: "journal")

    public static let informational: [EventKind] = [
        .state, .session, .tuned, .qemu, .unanswered, .verified, .arbiterLost, .arbiterBack, .stalled, .stallOver,
        .guestHung, .diskFault, .diskRejoined, .carried, .carriedHome, .roomShort, .roomBack, .error, .agent, .journal,
    ]
}

extension EventKind {
    public static let known = decisions + informational

    /// Whether it is one that is never dropped. A kind that this build does not know is none.
    public var isDecision: Bool { Self.decisions.contains(self) }

    /// Whether a chain of decisions is told to its end with it.
    public var endsChain: Bool { [.protected, .reProtected, .dialled, .degraded, .climbed, .ended].contains(self) }

    /// Whether it tells of something that happened by itself, and so has no decision as its cause unless one is just
    /// being carried out.
    public var isDetection: Bool { self == .detected || self == .standbyLost }

    /// Whether protection was gone when this was decided: what comes after it protects again.
    public var isLoss: Bool {
        isDetection || [.forced, .promoted, .coldBoot, .restarted, .handedOver, .firstOutput, .fenced].contains(self)
    }

    /// Whether something is still being carried out when this is the last decision.
    public var isUnderWay: Bool {
        isDetection
            || [.request, .asked, .granted, .forced, .handedOver, .fencingAsked, .fencingConfirmed].contains(self)
    }
}
