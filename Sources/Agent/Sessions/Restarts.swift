import Foundation
import Glibc
import Hypervisor
import LinuxSystem
import Memory
import Model
import Pair
import Protocol
import Standby

/// Starts guests that died on this host again, from their disks, as often as they may be.
final class Restarts: Sendable {
    private let drivers: Drivers
    private let store: VMStore
    private let standard: RestartBudget
    private let budgets: RestartBudgets

    init(drivers: Drivers, store: VMStore) {
        self.drivers = drivers
        self.store = store
        standard = drivers.configuration.defaults.restarts
        budgets = RestartBudgets(standard, store)
    }

    func starter(of vm: VMName) -> any GuestStarter { Starter(vm: vm, restarts: self) }

    private struct Starter: GuestStarter {
        let vm: VMName
        let restarts: Restarts

        func makeReady(_ guest: GuestDescription) throws(SessionError) -> any ReadyGuest {
            try restarts.makeReady(vm, guest)
        }

        func startsToTell() -> Int? { restarts.budgets.change(vm) { $0.startsToTell(at: $1) } }
    }

    /// The other host is to start it.
    func giveAway(_ vm: VMName) { budgets.change(vm) { $0.giveAway(at: $1) } }

    /// The other host could not start it again, after so many starts, and this one did.
    func takeOver(_ vm: VMName, after starts: Int) { budgets.change(vm) { $0.takeOver(after: starts, at: $1) } }

    private func makeReady(_ vm: VMName, _ guest: GuestDescription) throws(SessionError) -> any ReadyGuest {
        let began = MonotonicClock.now()
        guard budgets.change(vm, { $0.take(at: $1) }) else {
            throw SessionError(
                .refused,
                "it was started \(standard.limit) times within \(standard.minutes) minutes, and died again or did not come up"
            )
        }
        do {
            let command = try drivers.restartCommand(vm, guest)
            // QEMU would make one, which is in no network.
            let taps = guest.nics.compactMap { drivers.standbys.tap(of: $0, in: command) }
            if let tap = taps.first(where: { if_nametoindex($0) == 0 }) {
                throw SessionError(.qemu, "its tap \(tap) is not there any more")
            }
            let memory = FreshMemory(command, drivers.places(vm, guest))
            do {
                // That of the one that died takes room as long as it has a name.
                drivers.bases.forgetGuest(vm)
                try memory.make()
                return Ready(vm, try boot(vm, command), command.monitorPath, memory, self, began: began)
            } catch {
                memory.remove()
                throw error
            }
        } catch {
            throw SessionError(.qemu, "\(vm) died and cannot be started again: \(error)")
        }
    }

    /// A QEMU in which the guest stands still.
    private func boot(_ vm: VMName, _ command: StandbyCommand) throws -> any StandbyGuest {
        let directory = drivers.configuration.runtimeDirectory(of: vm)
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let started = try drivers.standbys.boot(command, logPath: "\(directory)/qemu.log")
        do {
            // An agent that comes back takes it in hand: the register says whether it may run.
            try store.update(vm) { memory in
                memory.guest?.moved(to: started.pid, command.monitorPath)
            }
        } catch {
            started.kill()
            throw error
        }
        return started
    }

    private final class Ready: ReadyGuest {
        private let vm: VMName
        private let process: any StandbyGuest
        private let monitorPath: String
        private let memory: FreshMemory
        private let restarts: Restarts
        private let began: UInt64

        init(
            _ vm: VMName, _ process: any StandbyGuest, _ monitorPath: String, _ memory: FreshMemory,
            _ restarts: Restarts, began: UInt64
        ) {
            (self.vm, self.process, self.monitorPath, self.memory) = (vm, process, monitorPath, memory)
            (self.restarts, self.began) = (restarts, began)
        }

        func run() throws(SessionError) -> StartedGuest {
            do throws(SessionError) {
                try process.run()
            } catch {
                discard()
                throw SessionError(.qemu, "\(vm) died and cannot be started again: \(error.message)")
            }
            process.close()
            let drivers = restarts.drivers
            drivers.bases.lend(vm, from: drivers.configuration.memoryDirectory(of: vm))
            var result = StartedGuest(pid: process.pid, monitorPath: monitorPath)
            result.duration = MonotonicClock.now() - began
            return result
        }

        func discard() {
            process.kill()
            memory.remove()
        }
    }
}
