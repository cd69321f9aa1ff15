import Foundation
import LinuxSystem
import Messages
import Model
import RomulusAPI

/// What should be protected: what the configuration says of each VM, and the operator's last word.
package struct Words: Sendable {
    let configuration: Configuration
    let store: VMStore
    let roster: Roster
    let chronicle: Chronicle

    package init(configuration: Configuration, store: VMStore, roster: Roster, chronicle: Chronicle) {
        self.configuration = configuration
        self.store = store
        self.roster = roster
        self.chronicle = chronicle
    }

    /// VMs that this host may have something to do with.
    var knownVMs: Set<VMName> {
        Set(configuration.vms.keys).union(store.vms).union(roster.names)
    }

    /// VMs that the configuration wants protected, and the operator's word does not.
    var silencedVMs: Set<VMName> {
        knownVMs.filter { store[$0].word?.protect == .manual && configuration.wanted($0, nil) != nil }
    }

    /// What is to be asked for whenever the VM's QEMU is there; nil when nothing is to happen by itself.
    package func wanted(_ vm: VMName) -> ProtectRequest? { configuration.wanted(vm, store[vm].word) }

    /// Keeps the operator's word, durably; nil takes the last one back. `saidAt` is when it was said.
    func keep(_ word: Word?, of vm: VMName, saidAt: Date = Date()) throws(APIError) {
        guard store[vm].word != word || word == .unprotect else { return }
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.word = word
                memory.wordSaidAt = saidAt
                // What comes next under that name may be another VM.
                if word == .unprotect { memory.identity = nil }
            }
        } catch {
            throw APIError(.failed, "what was said about \(vm) cannot be kept, so nothing was done: \(error)")
        }
    }

    /// That this host has the only whole copy of some of its disks is not held against others any more.
    func giveUpOnlyCopy(of vm: VMName) throws(APIError) {
        do throws(SystemError) {
            try store.forgetOwners(of: vm)
        } catch {
            throw APIError(.failed, "the only whole copy of \(vm) cannot be given up: \(error)")
        }
    }

    /// Another host protects the VM, with this one as its standby: that nobody wanted it protected is not true any more.
    func takeBack(about vm: VMName) {
        guard store[vm].word?.protect == .manual else { return }
        do throws(APIError) { try keep(nil, of: vm) } catch { chronicle.note(vm, .error, error.message) }
    }

    /// Takes over what was said of the VM at another host, where that was said later than what was said here.
    func follow(about vm: VMName, _ known: [(peer: NodeName, knowledge: VMKnowledge)]) {
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
            chronicle.note(vm, .request, "\(vm) is \(words): that was said at \(last.peer)")
        } catch {
            chronicle.note(vm, .error, error.message)
        }
    }
}
