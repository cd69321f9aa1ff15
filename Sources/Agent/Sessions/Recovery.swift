import Foundation
import Memory
import Model
import Pair
import Protocol
import RomulusAPI
import Standby

/// Takes up what an earlier run of this agent had in hand.
struct Recovery: Sendable {
    let configuration: Configuration
    /// Whether an arbiter decides.
    let hasArbiter: Bool
    let store: VMStore
    let roster: Roster
    let sessions: Sessions
    let guests: HeldGuests
    let bases: MemoryBases
    let drivers: Drivers
    let chronicle: Chronicle

    /// Guests first, then replicas.
    func run() {
        // The gate that an earlier run left is taken up before anything is said about its guests.
        sessions.leases?.sweep(keeping: Set(store.vms))
        for vm in store.torn {
            chronicle.note(
                vm, .error,
                "the last write of what this agent remembers of \(vm) was cut short: the one before counts")
        }
        for vm in store.vms {
            guard let guest = store[vm].guest else { continue }
            guard guest.isAlive else {
                guests.forget(vm)
                chronicle.note(
                    vm, .error, "the QEMU of \(vm) (pid \(guest.pid)) ended while this agent was away")
                continue
            }
            chronicle.note(
                vm, .session, "the guest of \(vm) (pid \(guest.pid)) was found after a restart of this agent")
            take(vm, guest)
        }
        recoverReplicas()
        for vm in bases.lent where store[vm].guest == nil { bases.forgetGuest(vm) }
        sessions.leases?.sweep(keeping: guestsHere)
    }

    /// The VMs whose guests are in hand here, and those that run here and could not be taken in hand: who may run them is
    /// not known then, and what keeps them silent stays.
    private var guestsHere: Set<VMName> {
        roster.primaries.union(store.vms.filter { store[$0].guest != nil })
    }

    private func take(_ vm: VMName, _ guest: VMStore.Guest) {
        var options = PrimaryOptions(vm: vm, qmpPath: guest.qmp, standby: guest.standby)
        options.foundPID = guest.pid
        options.level = guest.level
        options.tuning = guest.tuning
        options.reserve = guest.reserve ?? []
        options.replaceAfterSeconds = guest.replaceAfterSeconds ?? configuration.replaceAfter(of: vm)
        do throws(APIError) {
            _ = try sessions.begin(options, origin: .found(guest.lineage))
        } catch {
            chronicle.note(vm, .error, "the guest of \(vm) cannot be taken in hand: \(error.message)")
        }
    }

    /// Takes up replicas that an earlier run of this agent left behind, and removes those that are of no use.
    private func recoverReplicas() {
        for vm in Replica.leftBehind(in: configuration.memoryDirectory) {
            let directory = configuration.memoryDirectory(of: vm)
            if let resumed = Replica.resumed(in: directory) {
                takeResumed(vm, resumed)
                try? FileManager.default.removeItem(atPath: directory)
                continue
            }
            do throws(SessionError) {
                _ = try sessions.adopt(try drivers.recover(vm), nil, link: nil)
                chronicle.note(
                    vm, .session,
                    "a whole replica of \(vm) was found after a restart of this agent: its session is over"
                        + (hasArbiter ? ", the arbiter decides" : ", it can be taken over or given up"))
            } catch {
                chronicle.note(vm, .error, "\(error); it was removed")
                Replica.keepLeftover(vm, directory, guests: drivers.standbys, bases)
            }
        }
    }

    /// A guest that was resumed here just before an earlier run of this agent ended.
    private func takeResumed(
        _ vm: VMName, _ resumed: (pid: Int32, monitorPath: String, image: StandbyMachine.Image)
    ) {
        guard roster[vm] == nil, GuestProcess.runs(resumed.pid),
            let startTime = GuestProcess.startTime(of: resumed.pid)
        else { return }
        take(
            vm,
            VMStore.Guest(
                pid: resumed.pid, startTime: startTime, lineage: resumed.image.lineage, qmp: resumed.monitorPath,
                standby: resumed.image.primary,
                level: store[vm].local.register?.level ?? configuration.vms[vm]?.level ?? configuration.defaults.level,
                epochMilliseconds: configuration.vms[vm]?.epochMilliseconds ?? configuration.defaults.epochMilliseconds)
        )
    }
}
