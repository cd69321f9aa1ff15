import LinuxSystem
import Model
import Pair
import Synchronization

/// Has guests of a lost host started in their order.
final class StartTurns: Sendable {
    private static let lookPeriod: UInt64 = 50_000_000

    private let configuration: Configuration
    private let roster: Roster
    /// Of guests that were started here, or could not be.
    private let ended = Mutex<[VMName: StartOrder.Stage]>([:])

    init(configuration: Configuration, roster: Roster) {
        self.configuration = configuration
        self.roster = roster
    }

    /// Nil where no order is asked for: then nobody waits.
    func turn(of vm: VMName) -> (any StartTurn)? {
        let usual = Configuration.VM.usualOrder.place
        return configuration.vms.values.contains { $0.startOrder.place != usual } ? Turn(vm: vm, turns: self) : nil
    }

    private struct Turn: StartTurn {
        let vm: VMName
        let turns: StartTurns

        func wait(until isOver: () -> Bool, tell: (String) -> Void) {
            turns.ended.withLock { _ = $0.removeValue(forKey: vm) }
            let ready = MonotonicClock.now()
            var told: VMName?
            while !isOver(), let first = turns.first(before: vm, ready: ready) {
                if told != first { tell("\(vm) waits for its turn: \(first) is to be started before it") }
                told = first
                MonotonicClock.sleep(until: MonotonicClock.now() + StartTurns.lookPeriod)
            }
        }

        func end(hasStarted: Bool) {
            let now = MonotonicClock.now()
            turns.ended.withLock { $0[vm] = hasStarted ? .started(at: now) : .over }
        }
    }

    private func order(of vm: VMName) -> StartOrder {
        configuration.vms[vm]?.startOrder ?? Configuration.VM.usualOrder
    }

    /// One that `vm` has to wait for.
    private func first(before vm: VMName, ready: UInt64) -> VMName? {
        let own = order(of: vm)
        let ended = ended.withLock { $0 }
        let now = MonotonicClock.now()
        return roster.starts(with: vm).first { other, stage in
            own.waits(for: order(of: other), in: ended[other] ?? stage, ready: ready, now: now)
        }?.vm
    }
}
