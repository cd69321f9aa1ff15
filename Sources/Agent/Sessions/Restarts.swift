import Foundation
import Hypervisor
import LinuxSystem
import Memory
import Model
import Pair
import Standby
import Synchronization

/// Starts guests that died on this host again, from their disks, as often as they may be.
final class Restarts: Sendable {
    private let drivers: Drivers
    private let store: VMStore
    private let standard: RestartBudget
    /// Lives through the sessions of a VM, and ends with the agent.
    private let budgets = Mutex<[VMName: RestartBudget]>([:])

    init(drivers: Drivers, store: VMStore) {
        self.drivers = drivers
        self.store = store
        standard = drivers.configuration.defaults.restarts
    }

    func starter(of vm: VMName) -> any GuestStarter { Starter(vm: vm, restarts: self) }

    private struct Starter: GuestStarter {
        let vm: VMName
        let restarts: Restarts

        func start(_ guest: GuestDescription) throws(SessionError) -> StartedGuest { try restarts.start(vm, guest) }
    }

    private func start(_ vm: VMName, _ guest: GuestDescription) throws(SessionError) -> StartedGuest {
        let began = MonotonicClock.now()
        guard budgets.withLock({ $0[vm, default: standard].take(at: began) }) else {
            throw SessionError(
                .refused,
                "\(vm) stays down: it was started \(standard.limit) times within \(standard.minutes) minutes, and died again or did"
                    + " not come up; find out why, then start it and “romulus protect \(vm)”")
        }
        do {
            let command = try drivers.restartCommand(vm, guest)
            let memory = FreshMemory(command, drivers.places(vm, guest))
            let pid: Int32
            do {
                // That of the one that died takes room as long as it has a name.
                drivers.bases.forgetGuest(vm)
                try memory.make()
                pid = try boot(vm, command)
            } catch {
                memory.remove()
                throw error
            }
            drivers.bases.lend(vm, from: drivers.configuration.memoryDirectory(of: vm))
            var result = StartedGuest(pid: pid, monitorPath: command.monitorPath)
            result.duration = MonotonicClock.now() - began
            return result
        } catch {
            throw SessionError(.qemu, "\(vm) died and cannot be started again: \(error)")
        }
    }

    /// Returns the process in which the guest runs.
    private func boot(_ vm: VMName, _ command: StandbyCommand) throws -> Int32 {
        let directory = drivers.configuration.runtimeDirectory(of: vm)
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let started = try drivers.standbys.boot(command, logPath: "\(directory)/qemu.log")
        do {
            // Before it runs: an agent that comes back takes it in hand.
            try store.update(vm) { memory in
                memory.guest?.moved(to: started.pid, command.monitorPath)
            }
            try started.run()
        } catch {
            started.kill()
            throw error
        }
        started.close()
        return started.pid
    }
}
