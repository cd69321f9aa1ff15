/// The leases of this host's VMs, carried out: one `LeaseMachine` for each, and the gate that they keep open.
///
/// Owns: the machines, the one thread that they are asked on, the questions that are under way, and the host's
/// `KernelGate`. It decides nothing: who may run what, and until when output may leave, is said by the machines.
///
/// May call: KernelGate, Registers, Protocol, Model, LinuxSystem.
///
/// Upholds the shell's part of I26 and I27: what happened is handled in the order in which it came, so nothing is
/// promised to a question that came after this host asked to take over; a question is sent after the moment from which
/// its answer counts; the gate is opened by nothing but what a machine says. `docs/GATE.md` is its page.

import KernelGate
import LinuxSystem
import Logging
import Model
import Protocol
import Registers

package final class Leases: Sendable {
    /// Who speaks for a VM's guest. Called on the leases' thread and without a lock, so it should not take long.
    package struct Attendant: Sendable {
        /// The standby is to be asked for its promise; `confirmed` brings the answer.
        package var askStandby: @Sendable (_ question: UInt64, Term) -> Void = { _, _ in }
        /// The owner is to be told that this host promises.
        package var promise: @Sendable (_ question: UInt64, Term) -> Void = { _, _ in }
        package var mayRun: @Sendable () -> Void = {}
        /// The gate stands, open by a confirmed lease.
        package var guarded: @Sendable () -> Void = {}
        /// The gate cannot be put there, or is gone: why, as a sentence.
        package var unguardable: @Sendable (String) -> Void = { _ in }
        /// The register, at a later term than the lease's, names another owner.
        package var denied: @Sendable (Register) -> Void = { _ in }
        /// One sentence for the operator and the journal.
        package var report: @Sendable (String) -> Void = { _ in }

        package init() {}
    }

    private let setting: LeaseSetting

    /// - Parameter makeGate: called when a gate is needed for the first time, and by `sweep`.
    package init(
        node: NodeName, arbiter: any Arbiter, timing: LeaseTiming = .standard, log: Logger,
        makeGate: @escaping @Sendable () throws(KernelGateError) -> any OutputBarrier = {
            () throws(KernelGateError) in try KernelGate()
        }
    ) throws(SystemError) {
        let setting = LeaseSetting(
            node: node, arbiter: arbiter, timing: timing, log: log, gate: LazyGate(makeGate), inbox: LeaseInbox())
        self.setting = setting
        _ = try NamedThread.start("leases") { LeaseThread(setting).run() }
    }

    deinit { setting.inbox.close() }

    /// Why a guest that sends through these devices cannot be guarded here; nil when nothing is known that stands in
    /// the way. Puts no gate there.
    package func obstacle(to links: [GatedLink]) -> String? {
        guard !links.isEmpty else { return nil }
        do throws(KernelGateError) {
            try setting.gate.get().check(links)
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// Takes the place of the attendant before. What was handed in earlier is still told to that one.
    package func attend(_ vm: VMName, _ attendant: Attendant) { put(vm, .attendant(attendant)) }

    package func handle(_ event: LeaseMachine.Event, of vm: VMName) { put(vm, .event(event)) }

    /// Puts the gate before these devices in the moment in which it can be opened: once the VM's lease is confirmed. A
    /// gate that stands already is taken up as it is. `guarded` or `unguardable` follows.
    package func guardOutput(of vm: VMName, before links: [GatedLink]) { put(vm, .guardOutput(links)) }

    /// Takes the gate away, so that frames flow: only when SOLO is known to be won, or the guest is dead.
    package func unguard(_ vm: VMName) { put(vm, .unguard) }

    /// Takes away what an earlier run of the agent left before other guests than these.
    package func sweep(keeping kept: Set<VMName>) { setting.inbox.put(.sweep(keeping: kept)) }

    private func put(_ vm: VMName, _ news: LeaseNews) { setting.inbox.put(.of(vm, news)) }
}

/// What all of it shares.
struct LeaseSetting: Sendable {
    let node: NodeName
    let arbiter: any Arbiter
    let timing: LeaseTiming
    let log: Logger
    let gate: LazyGate
    let inbox: LeaseInbox
}
