import Foundation
import Messages
import Model
import Pair
import RomulusAPI

/// What hosts tell each other of VMs that more than one of them lists: who has the guest, and the operator's last word.
extension AgentCore {
    /// VMs that the configuration wants protected, and the operator's word does not.
    var silencedVMs: Set<VMName> {
        knownVMs.filter { store[$0].word?.protect == .manual && configuration.wanted($0, nil) != nil }
    }

    /// What this host tells of a VM to one that asks; nil when there is nothing to tell.
    func knowledge(of vm: VMName) -> VMKnowledge? {
        let memory = store[vm]
        let knowledge = VMKnowledge(
            vm: vm, guest: guestHere(vm, memory),
            word: memory.wordSaidAt.map { _ in memory.word?.protect ?? .always }, saidAt: memory.wordSaidAt)
        return knowledge.guest == nil && knowledge.word == nil ? nil : knowledge
    }

    /// What the VM's guest is to this host; nil when it does not run here.
    private func guestHere(_ vm: VMName, _ memory: VMStore.Memory) -> String? {
        if let record = state.withLock({ $0.vms[vm] }), record.isActive, record.role == .primary {
            return record.state == .protected ? "protected, with \(record.peer) as its standby" : record.state.rawValue
        }
        return memory.left?.isAlive == true ? "unprotected" : nil
    }

    /// What each peer that answers knows of these VMs, by its name. Takes some seconds where one is away.
    func askPeers(about vms: Set<VMName>) async -> [(peer: String, knowledge: [VMKnowledge])] {
        await withTaskGroup(of: (peer: String, knowledge: [VMKnowledge]).self) { tasks in
            for peer in configuration.peers.keys {
                tasks.addTask { (peer, await self.knowledge(at: peer, of: vms)) }
            }
            var answers: [(peer: String, knowledge: [VMKnowledge])] = []
            for await answer in tasks { answers.append(answer) }
            return answers.sorted { $0.peer < $1.peer }
        }
    }

    /// So many fit into one frame.
    private static let vmsPerQuestion = 100

    private func knowledge(at peer: String, of vms: Set<VMName>) async -> [VMKnowledge] {
        var known: [VMKnowledge] = []
        var left = vms.sorted()[...]
        while !left.isEmpty {
            let question = HelloMessage(
                node: configuration.node, software: "romulus \(Romulus.version)", purpose: .question,
                vms: Array(left.prefix(Self.vmsPerQuestion)))
            guard case .known(let answer) = await self.answer(of: peer, to: question) else { break }
            known += answer
            left = left.dropFirst(Self.vmsPerQuestion)
        }
        return known
    }

    /// Another host protects the VM, with this one as its standby: that nobody wanted it protected is not true any more.
    func takeBackWord(about vm: VMName) {
        guard store[vm].word?.protect == .manual else { return }
        do throws(APIError) { try keep(nil, of: vm) } catch { note(vm, .error, error.message) }
    }

    /// Takes over what was said of the VM at another host, where that was said later than what was said here.
    func followWord(about vm: VMName, _ known: [(peer: String, knowledge: VMKnowledge)]) {
        let said = known.compactMap { peer, knowledge in
            knowledge.saidAt.flatMap { at in knowledge.word.map { (peer: peer, word: $0, at: at) } }
        }
        let here = store[vm]
        guard let last = said.max(by: { $0.at < $1.at }), last.at > here.wordSaidAt ?? .distantPast else { return }
        let isManualHere = here.word?.protect == .manual
        guard (last.word == .manual) != isManualHere else { return }
        do throws(APIError) {
            try keep(last.word == .manual ? .unprotect : nil, of: vm, saidAt: last.at)
            let words = last.word == .manual ? "not to be protected" : "to be protected again"
            note(vm, .request, "\(vm) is \(words): that was said at \(last.peer)")
        } catch {
            note(vm, .error, error.message)
        }
    }
}
