import KernelGate
import Leases
import Model
import Synchronization

/// The kernel's gate, in memory: what stands before which guest, and until when it is open.
package final class FakeBarrier: OutputBarrier {
    package enum Step: Sendable, Equatable {
        case install, open, close, remove
    }

    private struct State {
        var links: [VMName: [GatedLink]] = [:]
        var open: Set<VMName> = []
        var steps: [Step] = []
        var refusal: KernelGateError?
    }

    private let state = Mutex(State())

    package init() {}

    package var guests: [VMName: [GatedLink]] { state.withLock { $0.links } }
    package func isOpen(_ vm: VMName) -> Bool { state.withLock { $0.open.contains(vm) } }
    package var steps: [Step] { state.withLock { $0.steps } }
    /// Every gate that is to be put there from now on is refused.
    package func refuse(_ error: KernelGateError?) { state.withLock { $0.refusal = error } }

    package func check(_ links: [GatedLink]) throws(KernelGateError) {}

    package func install(_ vm: VMName, before links: [GatedLink]) throws(KernelGateError) {
        let refusal = state.withLock { state in
            if state.refusal == nil {
                state.links[vm] = links
                state.steps.append(.install)
            }
            return state.refusal
        }
        if let refusal { throw refusal }
    }

    package func open(_ vm: VMName, until deadline: UInt64) throws(KernelGateError) -> Bool {
        state.withLock { state in
            state.open.insert(vm)
            state.steps.append(.open)
        }
        return true
    }

    package func renew(_ deadlines: [VMName: UInt64]) throws(KernelGateError) -> [VMName: KernelGate.Renewal] {
        state.withLock { state in deadlines.mapValues { _ in .renewed } }
    }

    package func close(_ vm: VMName) throws(KernelGateError) {
        state.withLock { state in
            state.open.remove(vm)
            state.steps.append(.close)
        }
    }

    package func remove(_ vm: VMName) throws(KernelGateError) {
        state.withLock { state in
            state.links[vm] = nil
            state.open.remove(vm)
            state.steps.append(.remove)
        }
    }
}
