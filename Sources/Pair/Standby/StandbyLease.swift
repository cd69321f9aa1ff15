import Leases
import Model

/// The lease of a VM whose level does not hold output: promised to its owner, waited for when this host takes over.
enum StandbyLease {
    /// Speaks for the VM at this host from now on: the dial may be turned to such a level.
    static func attend(_ shell: StandbyShell) {
        var attendant = Leases.Attendant()
        attendant.promise = { [weak shell] question, term in
            shell?.state.withLock { $0.link }?.send(StandbyMessage.promise(question: question, term).frame)
        }
        attendant.mayRun = { [weak shell] in shell?.tell { $0.handle(.cleared) } }
        attendant.denied = { [weak shell] register in shell?.tell { $0.lose(to: register) } }
        attendant.report = { [weak shell] text in shell?.report(.event(.state, text)) }
        shell.custody.leases?.attend(shell.vm, attendant)
    }
}
