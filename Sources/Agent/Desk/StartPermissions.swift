import Model
import Registers
import RomulusAPI
import Synchronization

/// Who else may start a VM here: a libvirt hook asks before each start of a domain, so that no guest runs at two hosts.
package final class StartPermissions: Sendable {
    private let node: NodeName
    private let arbiter: (any Arbiter)?
    private let roster: Roster
    private let store: VMStore
    private let chronicle: Chronicle
    /// Until when the operator's word counts.
    private let words = Mutex<[VMName: ContinuousClock.Instant]>([:])

    private static let wordCounts = Duration.seconds(300)
    private static let endTakes = Duration.seconds(8)

    init(
        _ node: NodeName, _ arbiter: (any Arbiter)?, _ roster: Roster, _ store: VMStore, _ chronicle: Chronicle
    ) {
        self.node = node
        self.arbiter = arbiter
        self.roster = roster
        self.store = store
        self.chronicle = chronicle
    }

    func permission(of vm: VMName) async -> StartPermission {
        let refusal = await refusal(of: vm)
        guard let refusal else {
            return StartPermission(vm: vm, isAllowed: true, reason: "\(vm) runs at no other host that Romulus knows of")
        }
        if let end = words.withLock({ $0[vm] }), .now < end {
            return StartPermission(vm: vm, isAllowed: true, reason: "the operator said so, although \(refusal)")
        }
        return StartPermission(
            vm: vm, isAllowed: false,
            reason:
                "\(refusal); see “romulus status \(vm)”, and when no other host runs it for certain, “romulus libvirt"
                + " allow \(vm)” lets it start here")
    }

    /// The operator says that no other host runs it: for some minutes it may be started.
    func allow(_ vm: VMName) -> StartPermission {
        words.withLock { $0[vm] = .now + Self.wordCounts }
        chronicle.note(vm, .forced, "the operator lets \(vm) be started at \(node): no other host runs it")
        return StartPermission(
            vm: vm, isAllowed: true, reason: "the operator said so: it may be started here within five minutes")
    }

    /// Nil where nothing speaks against it; else the beginning of a sentence.
    private func refusal(of vm: VMName) async -> String? {
        await end(of: vm)
        if let record = roster[vm] {
            switch record.part {
            case .standby: return "\(vm) runs at \(record.peerName), and this host has its replica"
            case .primary:
                return "Romulus has \(vm) in hand at \(node) and starts it itself where that is needed"
            case .none: break
            }
        }
        guard !roster.isInHand(vm) else { return "\(node) is taking \(vm) in hand at this moment" }
        guard store.vms.contains(vm) else { return nil }
        if let pid = store[vm].runningHere {
            return "\(vm) runs here already, in a QEMU that Romulus started (pid \(pid))"
        }
        guard let arbiter else { return Self.refusal(store[vm].local.register, of: vm, at: node) }
        switch await arbiter.read(vm) {
        case .value(let register): return Self.refusal(register, of: vm, at: node)
        case .unknown(let reason): return "\(vm) was protected here, and nobody can say who runs it: \(reason)"
        }
    }

    /// A session whose guest was shut down gives the pair up first, which is waited for.
    private func end(of vm: VMName) async {
        func isEnding() -> Bool {
            guard let record = roster[vm], case .primary = record.part, let pid = record.pid else { return false }
            return !GuestProcess.runs(pid)
        }
        guard isEnding() else { return }
        _ = await roster.changes.wait(until: .now + Self.endTakes) { [roster] in
            if case .primary = roster[vm]?.part { false } else { true }
        }
    }

    /// What the VM's register, as it was read, has against a start at `node`; nil where nothing.
    package static func refusal(_ register: Register?, of vm: VMName, at node: NodeName) -> String? {
        guard let register else { return nil }
        guard register.owner == node else {
            return "the register of \(vm) names \(register.owner) (term \(register.term)), which runs it"
        }
        guard register.mode == .paired, let standby = register.standby?.node else { return nil }
        return
            "\(standby) was paired with \(node) when \(vm) ran last (term \(register.term)): it may go on with it at any time"
    }
}
