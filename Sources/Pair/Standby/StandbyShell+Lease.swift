import Leases
import Model

/// The lease of a VM whose level does not hold output: promised to its owner, waited for when this host takes over.
extension StandbyShell {
    /// Speaks for the VM at this host from now on: the dial may be turned to such a level.
    func attendLease() {
        var attendant = Leases.Attendant()
        attendant.promise = { [weak self] question, term in
            guard let self else { return }
            state.withLock { $0.link }?.send(StandbyMessage.promise(question: question, term).frame)
        }
        attendant.mayRun = { [weak self] in self?.tell { $0.handle(.cleared) } }
        attendant.report = { [weak self] text in self?.report(.event(.state, text)) }
        custody.leases?.attend(vm, attendant)
    }
}
