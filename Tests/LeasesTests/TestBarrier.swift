import KernelGate
import Leases
import LinuxSystem
import Model
import Synchronization

/// A gate in memory that shuts by itself, and fails as it is told.
final class TestBarrier: OutputBarrier {
    enum Call: Hashable, Sendable { case check, install, open, renew, close, remove }

    struct Entry: Equatable, Sendable {
        var call: Call
        var vm: VMName
        /// Until when the gate was to be open.
        var deadline: UInt64?
    }

    private struct State {
        var guests: [VMName: [GatedLink]] = [:]
        var openUntil: [VMName: UInt64] = [:]
        var entries: [Entry] = []
        var failures: [Call: KernelGateError] = [:]
        var isOverdue = false
    }

    private let state: Mutex<State>

    /// `guests`: those that an earlier life left.
    init(_ guests: [VMName: [GatedLink]] = [:]) { state = Mutex(State(guests: guests)) }

    var guests: [VMName: [GatedLink]] { state.withLock { $0.guests } }
    var entries: [Entry] { state.withLock { $0.entries } }
    var calls: [Call] { entries.map(\.call) }
    func isOpen(_ vm: VMName) -> Bool { state.withLock { $0.openUntil[vm] ?? 0 > BootClock.now() } }

    func fail(_ call: Call, with error: KernelGateError?) { state.withLock { $0.failures[call] = error } }
    /// Renewals come too late from here on, or in time.
    func beOverdue(_ isOverdue: Bool) { state.withLock { $0.isOverdue = isOverdue } }
    func shut(_ vm: VMName) { state.withLock { $0.openUntil[vm] = nil } }

    private func enter(_ call: Call, _ vm: VMName, _ deadline: UInt64? = nil) throws(KernelGateError) {
        let failure = state.withLock { state in
            state.entries.append(Entry(call: call, vm: vm, deadline: deadline))
            return state.failures[call]
        }
        if let failure { throw failure }
        if call != .install, guests[vm] == nil { throw .unknownGuest(vm.description) }
    }

    func check(_ links: [GatedLink]) throws(KernelGateError) {
        if let failure = state.withLock({ $0.failures[.check] }) { throw failure }
    }

    func install(_ vm: VMName, before links: [GatedLink]) throws(KernelGateError) {
        try enter(.install, vm)
        state.withLock { $0.guests[vm] = links }
    }

    func open(_ vm: VMName, until deadline: UInt64) throws(KernelGateError) -> Bool {
        try enter(.open, vm, deadline)
        guard deadline > BootClock.now() else { return false }
        state.withLock { $0.openUntil[vm] = deadline }
        return true
    }

    func renew(_ deadlines: [VMName: UInt64]) throws(KernelGateError) -> [VMName: KernelGate.Renewal] {
        var results: [VMName: KernelGate.Renewal] = [:]
        for (vm, deadline) in deadlines {
            try enter(.renew, vm, deadline)
            let isOpen = isOpen(vm)
            results[vm] = state.withLock { state in
                if state.isOverdue { return .overdue }
                if isOpen { state.openUntil[vm] = deadline }
                return isOpen ? .renewed : .hadShut
            }
        }
        return results
    }

    func close(_ vm: VMName) throws(KernelGateError) {
        try enter(.close, vm)
        shut(vm)
    }

    func remove(_ vm: VMName) throws(KernelGateError) {
        try enter(.remove, vm)
        state.withLock { state in
            state.guests[vm] = nil
            state.openUntil[vm] = nil
        }
    }
}
