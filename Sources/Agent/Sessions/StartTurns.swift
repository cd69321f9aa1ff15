import LinuxSystem
import Model
import Pair
import Synchronization

/// Has guests of a lost host started in their order.
final class StartTurns: Sendable {
    private static let lookPeriod: UInt64 = 50_000_000

    private let configuration: Configuration
    private let roster: Roster
    /// Of guests that were started here, by the monotonic clock; nil for one that could not be.
    private let ended = Mutex<[VMName: UInt64?]>([:])

    init(configuration: Configuration, roster: Roster) {
        self.configuration = configuration
        self.roster = roster
    }

    /// Nil where no order is asked for: then nobody waits.
    func turn(of vm: VMName) -> (any StartTurn)? {
        let orders = configuration.vms.mapValues(\.startOrder)
        guard Set(orders.values.map(\.place)).union([Configuration.VM.usualOrder.place]).count > 1 else { return nil }
        return Turn(vm: vm, turns: self)
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
            turns.ended.withLock { $0[vm] = .some(hasStarted ? now : nil) }
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
        return roster.starts(with: vm).first { other, isUnderWay in
            let stage: StartOrder.Stage =
                switch ended[other] {
                case .some(.some(let at)): .started(at: at)
                case .some(.none): .over
                case .none: isUnderWay.map { $0 ? .underWay : .idle } ?? .over
                }
            return own.waits(for: order(of: other), in: stage, ready: ready, now: now)
        }?.vm
    }
}
