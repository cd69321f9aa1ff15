import Pair
import Protocol

/// Counts how often each cell of the machines' tables had an effect: a cell is a state and an event, and it has an effect
/// when the machine changes or more is to be done than to say something.
struct Coverage {
    private(set) var primary = [Int](
        repeating: 0, count: PrimaryMachine.State.names.count * PrimaryMachine.Event.names.count)
    private(set) var standby = [Int](
        repeating: 0, count: StandbyMachine.State.names.count * StandbyMachine.Event.names.count)

    mutating func visit(_ step: RecordedMachine<PrimaryMachine>.Step) {
        let (before, after) = (step.before.state, step.after.state)
        let isChanged = !step.event.isRoutine && step.before != step.after
        guard isChanged || before.number != after.number || !step.actions.allSatisfy(\.isWords) else { return }
        primary[before.number * PrimaryMachine.Event.names.count + step.event.number] += 1
    }

    mutating func visit(_ step: RecordedMachine<StandbyMachine>.Step) {
        let (before, after) = (step.before.state, step.after.state)
        let isChanged = !step.event.isRoutine && step.before != step.after
        guard isChanged || before.number != after.number || !step.actions.allSatisfy(\.isWords) else { return }
        standby[before.number * StandbyMachine.Event.names.count + step.event.number] += 1
    }

    mutating func add(_ other: Coverage) {
        for index in primary.indices { primary[index] += other.primary[index] }
        for index in standby.indices { standby[index] += other.standby[index] }
    }

    /// `machine state event`, with how often.
    var cells: [(name: String, count: Int)] {
        var cells: [(String, Int)] = []
        for (index, count) in primary.enumerated() {
            let (state, event) = index.quotientAndRemainder(dividingBy: PrimaryMachine.Event.names.count)
            cells.append(("primary \(PrimaryMachine.State.names[state]) \(PrimaryMachine.Event.names[event])", count))
        }
        for (index, count) in standby.enumerated() {
            let (state, event) = index.quotientAndRemainder(dividingBy: StandbyMachine.Event.names.count)
            cells.append(("standby \(StandbyMachine.State.names[state]) \(StandbyMachine.Event.names[event])", count))
        }
        return cells
    }
}

extension PrimaryMachine.Action {
    var isWords: Bool {
        switch self {
        case .refuseSwitchover, .report: true
        default: false
        }
    }
}

extension StandbyMachine.Action {
    var isWords: Bool {
        switch self {
        case .report, .refuse, .refuseCommand: true
        default: false
        }
    }
}

extension PrimaryMachine.State {
    static let names = [
        "adopting", "solo", "offering", "copying", "pairing", "paired", "handingOver", "lonely", "frozen", "forked",
        "fencing", "fenced", "ended",
    ]
    var name: String { Self.names[number] }
    var number: Int {
        switch self {
        case .adopting: 0
        case .solo: 1
        case .offering: 2
        case .copying: 3
        case .pairing: 4
        case .paired: 5
        case .handingOver: 6
        case .lonely: 7
        case .frozen: 8
        case .forked: 9
        case .fencing: 10
        case .fenced: 11
        case .ended: 12
        }
    }
}

extension PrimaryMachine.Event {
    /// Each epoch has one of these, and what is lost here counts when something else comes: what they change by themselves is no
    /// effect.
    var isRoutine: Bool {
        switch self {
        case .sealed, .acknowledged, .copyLost: true
        default: false
        }
    }

    static let names = [
        "started", "candidate", "accepted", "refused", "peerRegister", "sealed", "sealedLast", "acknowledged",
        "standbyLost", "handOverOverdue", "handedBack", "standbyLeaves", "guestLost", "guestEnded", "unprotect",
        "switchOver",
        "setLevel", "goOn", "giveUp", "answered", "registerRead", "registerUnreadable", "persisted",
        "letGo", "peerFenced", "fencingFailed", "peerHeard", "declined", "guarded", "guestStarted", "copyLost",
        "startable", "unstartable",
    ]
    var number: Int {
        switch self {
        case .started: 0
        case .candidate: 1
        case .accepted: 2
        case .refused: 3
        case .peerRegister: 4
        case .sealed: 5
        case .sealedLast: 6
        case .acknowledged: 7
        case .standbyLost: 8
        case .handOverOverdue: 9
        case .handedBack: 10
        case .standbyLeaves: 11
        case .guestLost: 12
        case .guestEnded: 13
        case .unprotect: 14
        case .switchOver: 15
        case .setLevel: 16
        case .goOn: 17
        case .giveUp: 18
        case .answered: 19
        case .registerRead: 20
        case .registerUnreadable: 21
        case .persisted: 22
        case .letGo: 23
        case .peerFenced: 24
        case .fencingFailed: 25
        case .peerHeard: 26
        case .declined: 27
        case .guarded: 28
        case .guestStarted: 29
        case .copyLost: 30
        case .startable: 31
        case .unstartable: 32
        }
    }
}

extension StandbyMachine.State {
    static let names = [
        "none", "preparing", "receiving", "holding", "orphaned", "loading", "arbitrating", "takingOver", "resuming",
        "returning", "running", "failed", "consulting",
    ]
    var name: String { Self.names[number] }
    var number: Int {
        switch self {
        case .none: 0
        case .preparing: 1
        case .receiving: 2
        case .holding: 3
        case .orphaned: 4
        case .loading: 5
        case .arbitrating: 6
        case .takingOver: 7
        case .resuming: 8
        case .returning: 9
        case .running: 10
        case .failed: 11
        case .consulting: 12
        }
    }
}

extension StandbyMachine.Event {
    /// Each epoch has one of these: what they change by themselves is no effect.
    var isRoutine: Bool {
        switch self {
        case .staged, .applied: true
        default: false
        }
    }

    static let names = [
        "started", "offered", "prepared", "prepareFailed", "staged", "applied", "registerTold", "linkLost", "takeOver",
        "dismissed", "force", "giveUp", "imageLost", "answered", "registerRead", "registerUnreadable", "persisted",
        "loaded", "loadFailed", "resumed", "resumeFailed", "replicaEnded", "peerFenced", "fencingFailed", "peerHeard",
        "cleared",
    ]
    var number: Int {
        switch self {
        case .started: 0
        case .offered: 1
        case .prepared: 2
        case .prepareFailed: 3
        case .staged: 4
        case .applied: 5
        case .registerTold: 6
        case .linkLost: 7
        case .takeOver: 8
        case .dismissed: 9
        case .force: 10
        case .giveUp: 11
        case .imageLost: 12
        case .answered: 13
        case .registerRead: 14
        case .registerUnreadable: 15
        case .persisted: 16
        case .loaded: 17
        case .loadFailed: 18
        case .resumed: 19
        case .resumeFailed: 20
        case .replicaEnded: 21
        case .peerFenced: 22
        case .fencingFailed: 23
        case .peerHeard: 24
        case .cleared: 25
        }
    }
}
