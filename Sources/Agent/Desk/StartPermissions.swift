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
        if let end = words.withLock({ $0.removeValue(forKey: vm) }), .now < end {
            chronicle.note(vm, .forced, "\(vm) is started here by the operator's word, although \(refusal)")
            return StartPermission(vm: vm, isAllowed: true, reason: "the operator said so, although \(refusal)")
        }
        return StartPermission(
            vm: vm, isAllowed: false,
            reason:
                "\(refusal); see “romulus status \(vm)”, and when no other host runs it for certain, “romulus libvirt"
                + " allow \(vm)” lets it start here once")
    }

    /// The operator says that no other host runs it: its next start is allowed.
    func allow(_ vm: VMName) -> StartPermission {
        words.withLock { $0[vm] = .now + Self.wordCounts }
        chronicle.note(vm, .request, "the operator lets \(vm) be started here once: no other host runs it")
        return StartPermission(
            vm: vm, isAllowed: true, reason: "the operator said so: its next start within five minutes is let through")
    }

    /// Nil where nothing speaks against it; else the beginning of a sentence.
    private func refusal(of vm: VMName) async -> String? {
        if let record = roster[vm] {
            switch record.part {
            case .standby: return "\(vm) runs at \(record.peerName), and this host has its replica"
            case .primary:
                return "Romulus has \(vm) in hand at \(node) and starts it itself where that is needed"
            case .none: break
            }
        }
        guard store.vms.contains(vm) else { return nil }
        guard let arbiter else { return Self.refusal(store[vm].local.register, of: vm, at: node) }
        switch await arbiter.read(vm) {
        case .value(let register): return Self.refusal(register, of: vm, at: node)
        case .unknown(let reason): return "\(vm) was protected here, and nobody can say who runs it: \(reason)"
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
