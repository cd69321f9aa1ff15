import KernelGate
import LinuxSystem
import Model
import Protocol
import Registers

/// What there is to tell of a VM.
enum LeaseNews: Sendable {
    case attendant(Leases.Attendant)
    case event(LeaseMachine.Event)
    /// What the arbiter said to a question.
    case reading(question: UInt64, RegisterReading)
    case guardOutput([GatedLink])
    case unguard
}

/// What happened and is not handled yet, in the order in which it came.
final class LeaseInbox: Sendable {
    enum Letter: Sendable {
        case of(VMName, LeaseNews)
        case sweep(keeping: Set<VMName>)
    }

    private struct State {
        var letters: [Letter] = []
        var isClosed = false
    }

    private let state = Monitor(State())

    func put(_ letter: Letter) { state.change { $0.letters.append(letter) } }

    func close() { state.change { $0.isClosed = true } }

    /// Waits for letters, until CLOCK_BOOTTIME reads `deadline` if there is one, and takes all that there are. Nil once
    /// it is closed.
    func take(by deadline: UInt64?) -> [Letter]? {
        let look = { (state: inout State) -> [Letter]?? in
            if state.isClosed { return .some(nil) }
            if state.letters.isEmpty { return nil }
            let letters = state.letters
            state.letters = []
            return .some(letters)
        }
        guard let deadline else { return state.wait(for: look) }
        let now = BootClock.now()
        return state.wait(nanoseconds: deadline > now ? deadline - now : 0, for: look) ?? []
    }
}
