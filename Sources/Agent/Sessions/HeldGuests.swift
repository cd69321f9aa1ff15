import LinuxSystem
import Memory
import Model
import Pair
import Protocol
import RomulusAPI

/// Which guests this host has in hand, as it remembers them over its own end.
package struct HeldGuests: Sendable {
    let store: VMStore
    let bases: MemoryBases
    let roster: Roster
    let words: Words
    let chronicle: Chronicle

    package init(store: VMStore, bases: MemoryBases, roster: Roster, words: Words, chronicle: Chronicle) {
        self.store = store
        self.bases = bases
        self.roster = roster
        self.words = words
        self.chronicle = chronicle
    }

    /// Before anything is claimed: a restarted agent must know which process it had in hand.
    func remember(_ options: PrimaryOptions, _ pid: Int32, _ lineage: Lineage) {
        var guest = VMStore.Guest(
            pid: pid, startTime: GuestProcess.startTime(of: pid) ?? 0, lineage: lineage, qmp: options.qmpPath,
            standby: options.standby, level: options.level, epochMilliseconds: options.tuning.epochMilliseconds)
        guest.reserve = options.reserve.isEmpty ? nil : options.reserve
        guest.replaceAfterSeconds = options.replaceAfterSeconds
        guest.tuning = roster[options.vm]?.tuning ?? options.tuning
        do throws(SystemError) {
            try store.update(options.vm) { $0.guest = guest }
        } catch {
            chronicle.note(options.vm, .error, "the guest of \(options.vm) cannot be remembered: \(error)")
        }
    }

    /// It is not in hand any more, whether it runs or not.
    func forget(_ vm: VMName) {
        bases.forgetGuest(vm)
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.left = memory.guest.flatMap { $0.isAlive ? $0 : nil } ?? memory.left
                memory.guest = nil
            }
        } catch {
            chronicle.note(vm, .error, "that the guest of \(vm) is gone cannot be remembered: \(error)")
        }
    }

    /// Another host goes on with it; `record` says so.
    func giveAway(_ vm: VMName, _ record: LocalRecord) {
        bases.keepGuest(vm)
        chronicle.note(
            vm, .fenced, "another host goes on with \(vm): its guest here is gone", term: record.seen)
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.local = record
                memory.guest = nil
                memory.identity = nil
            }
        } catch {
            chronicle.note(vm, .error, "that \(vm) was given away cannot be remembered: \(error)")
        }
    }

    /// Whether the VM is below the level that was asked for, and from where it fell, is kept.
    func keepDegraded(_ vm: VMName) {
        // As below.
        onDecisionQueue {
            guard case .primary(let session)? = roster[vm]?.part else { return }
            let from = session.degradedFrom
            guard store[vm].degradedFrom != from else { return }
            do throws(SystemError) {
                try store.update(vm) { $0.degradedFrom = from }
            } catch {
                chronicle.note(vm, .error, "from where \(vm) fell cannot be remembered: \(error)")
            }
        }
    }

    /// The VM is protected: who its standby is, and that it should be where the operator asked for it, is kept.
    func keepStandby(of vm: VMName) {
        // A session must not wait for the disk, and says who its standby is outside of its report.
        onDecisionQueue {
            let record = roster[vm]
            do {
                if let request = record?.request { try words.keep(Word(protecting: request), of: vm) }
                guard case .primary(let session)? = record?.part, let guest = store[vm].guest else { return }
                let standby = session.standby
                guard guest.standby != standby else { return }
                try store.update(vm) { memory in
                    memory.guest?.reserve = ([guest.standby] + (guest.reserve ?? [])).filter { $0 != standby }
                    memory.guest?.standby = standby
                }
            } catch {
                chronicle.note(vm, .error, "\(error)")
            }
        }
    }
}
