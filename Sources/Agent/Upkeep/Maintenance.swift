import Model
import Pair
import RomulusAPI
import Synchronization

/// Empties this host of protected VMs, and takes back what it moved away.
///
/// What is wanted is durable; what is done for it is repeated until it holds, so that neither a restart nor a switchover
/// that failed once leaves it half-done.
final class Maintenance: Sendable {
    /// Between two requests to one VM.
    private static let patience = Duration.seconds(10)
    /// Between two looks without news: what a session does not report is seen then.
    private static let restPeriod = Duration.seconds(1)
    /// From news to the look: the other host learns of it too, and refuses what it is asked too early.
    private static let settling = Duration.milliseconds(200)

    private let memory: MaintenanceMemory
    private let roster: Roster
    private let chronicle: Chronicle
    private let node: NodeName
    /// When something was last asked of a VM's session.
    private let asked = Mutex<[VMName: ContinuousClock.Instant]>([:])
    /// VMs of which it was told that they live by a disk that is here.
    private let kept = Mutex<Set<VMName>>([])

    init(_ memory: MaintenanceMemory, node: NodeName, chronicle: Chronicle) {
        self.memory = memory
        self.node = node
        self.chronicle = chronicle
        roster = chronicle.roster
    }

    /// Returns when it is durable.
    func set(isOn: Bool, stay: Bool) throws {
        try memory.change { wanted in
            wanted.isOn = isOn
            if stay { wanted.moved = [] }
        }
        asked.withLock { $0 = [:] }
        kept.withLock { $0 = [] }
        roster.changes.publish()
    }

    /// Does what there is to do, until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            let seen = roster.changes.version
            look()
            await roster.changes.next(after: seen, until: .now + Self.restPeriod)
            try? await Task.sleep(for: Self.settling)
        }
    }

    private func look() {
        let wanted = memory.wanted
        guard wanted.isOn || !wanted.moved.isEmpty else { return }
        for record in roster.refreshed() where record.isActive {
            if wanted.isOn { empty(record) } else { takeBack(record, wanted) }
        }
    }

    private func empty(_ record: VMRecord) {
        let vm = record.name
        switch record.part {
        case .primary(let session) where record.state == .protected:
            guard mayAsk(vm) else { return }
            do {
                // Known before it leaves: a host that goes down right after it comes back for it.
                try memory.change { if !$0.moved.contains(vm) { $0.moved.append(vm) } }
            } catch {
                return chronicle.note(
                    vm, .error, "\(vm) is not moved, that it was moved cannot be kept: \(error)")
            }
            noteAsked(vm)
            // What is asked again and again for the same reason is no news; that it was refused, the session notes.
            if session.switchoverRefusal == nil {
                chronicle.note(vm, .request, "maintenance: \(record.peerName) is to go on with the guest")
            }
            if let refusal = session.switchOver() {
                chronicle.note(vm, .refused, "\(vm) cannot be moved now: \(refusal)")
            }
        case .standby(let session) where [.protected, .stalled, .syncing].contains(record.state):
            guard !keeps(vm, session, record.peerName), mayAsk(vm) else { return }
            noteAsked(vm)
            chronicle.note(vm, .request, "maintenance: this host is the standby of \(vm) no longer")
            _ = session.ask(.leave, because: "\(node) is in maintenance")
        case .primary, .standby, .none:
            break
        }
    }

    /// True where the standby's host cannot be left now. The primary is told once, so that its operator sees it too.
    private func keeps(_ vm: VMName, _ session: StandbyShell, _ primary: String) -> Bool {
        guard session.hasOnlyCopy else {
            // What was asked before was refused for that.
            if kept.withLock({ $0.remove(vm) }) != nil { asked.withLock { $0[vm] = nil } }
            return false
        }
        guard kept.withLock({ $0.insert(vm).inserted }) else { return true }
        chronicle.note(vm, .refused, "maintenance: \(vm) \(Self.reasonToKeep(primary))")
        _ = session.ask(.leave, because: "\(node) is in maintenance")
        return true
    }

    private static func reasonToKeep(_ primary: String) -> String {
        "stays until its disk at \(primary) has rejoined, as its guest lives by the copy here: mend that disk, and romulus rejoin"
            + " there"
    }

    private func takeBack(_ record: VMRecord, _ wanted: MaintenanceMemory.Wanted) {
        let vm = record.name
        guard wanted.moved.contains(vm) else { return }
        switch record.part {
        case .primary:
            try? memory.change { $0.moved.removeAll { $0 == vm } }
        case .standby(let session) where record.state == .protected:
            guard mayAsk(vm) else { return }
            noteAsked(vm)
            chronicle.note(vm, .request, "maintenance is over: this host is to go on with the guest")
            _ = session.ask(.switchover, because: "\(node) takes \(vm) back after its maintenance")
        case .standby, .none:
            break
        }
    }

    private func mayAsk(_ vm: VMName) -> Bool {
        asked.withLock { asked in asked[vm].map { $0 + Self.patience < .now } ?? true }
    }

    private func noteAsked(_ vm: VMName) { asked.withLock { $0[vm] = .now } }

    // MARK: - How far it is

    /// Why a VM is still here while the host is to be empty, and whether that stays so.
    private static func look(at record: VMRecord) -> (stays: Bool, reason: String) {
        let here = "\(record.role.rawValue) here (\(record.state.rawValue))"
        if case .standby(let session) = record.part, session.hasOnlyCopy {
            return (false, "\(here), \(reasonToKeep(record.peerName))")
        }
        guard case .primary(let session) = record.part else { return (false, "\(here), is being moved away") }
        if session.isAlone {
            return (true, "runs here without a standby, so it stays until it is protected or moved by hand")
        }
        guard let refusal = session.switchoverRefusal else { return (false, "\(here), is being moved away") }
        return (false, "\(here), cannot be moved yet: \(refusal)")
    }

    var status: MaintenanceStatus {
        let wanted = memory.wanted
        let active = roster.refreshed().filter(\.isActive)
        var left: [MaintenanceStatus.VM] = []
        if wanted.isOn {
            left = active.map { record in
                let (stays, reason) = Self.look(at: record)
                return MaintenanceStatus.VM(name: record.name, stays: stays, reason: reason)
            }
        } else {
            left = wanted.moved.map { vm in
                let here = active.first { $0.name == vm }
                let reason =
                    here.map { "\($0.role.rawValue) here (\($0.state.rawValue))" }
                    ?? "is not protected towards this host yet"
                return MaintenanceStatus.VM(
                    name: vm, stays: false, reason: reason + ", comes back when it is protected")
            }
        }
        let state: MaintenanceStatus.State =
            wanted.isOn ? (left.allSatisfy(\.stays) ? .empty : .emptying) : (wanted.moved.isEmpty ? .off : .returning)
        return MaintenanceStatus(node: node, state: state, vms: left, moved: wanted.moved)
    }
}
