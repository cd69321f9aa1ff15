import Messages
import Model

/// What this host tells other hosts of VMs that more than one of them lists.
struct Testimony: Sendable {
    let node: NodeName
    /// Whether an arbiter decides.
    let hasArbiter: Bool
    let store: VMStore
    let roster: Roster

    /// Who has the guest, and the operator's last word; nil when there is nothing to tell.
    func knowledge(of vm: VMName) -> VMKnowledge? {
        let memory = store[vm]
        let knowledge = VMKnowledge(
            vm: vm, guest: guestHere(vm, memory),
            word: memory.wordSaidAt.map { _ in memory.word?.protect ?? .always }, saidAt: memory.wordSaidAt)
        return knowledge.guest == nil && knowledge.word == nil ? nil : knowledge
    }

    /// What the VM's guest is to this host; nil when it does not run here.
    private func guestHere(_ vm: VMName, _ memory: VMStore.Memory) -> String? {
        if let record = roster[vm], record.isActive, record.role == .primary {
            return record.state == .protected
                ? "protected, with \(record.peerName) as its standby" : record.state.rawValue
        }
        return memory.left?.isAlive == true ? "unprotected" : nil
    }

    /// Why this host does not give up what that register gives it; nil when it holds nothing, and never will again under
    /// this register: an image that is gone does not come back (I13), and a guest is started under a term of its own.
    func reasonNotToYield(_ question: YieldQuestion, to asker: NodeName) -> String? {
        let (vm, register) = (question.vm, question.register)
        let memory = store[vm]
        guard !roster.isInHand(vm) else { return "\(node) has \(vm) in hand" }
        guard memory.guest == nil, memory.left?.isAlive != true else { return "a guest of \(vm) runs at \(node)" }
        // Who remembers less than the register says has lost its memory, and perhaps a guest that still runs.
        guard memory.local.seen.number + 1 >= register.term.number else {
            return "\(node) does not remember term \(register.term) of \(vm)"
        }
        if !hasArbiter, register.owner != asker { return "without an arbiter the operator decides" }
        return nil
    }
}
