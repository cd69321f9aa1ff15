import LinuxSystem
import Messages
import Model

/// Which VM is meant by a name.
struct Identities: Sendable {
    let node: NodeName
    let store: VMStore
    let chronicle: Chronicle

    /// See `Custody.identify`.
    func identify(_ vm: VMName, _ found: VMIdentity?, _ isFresh: Bool) throws(SessionError) -> VMIdentity {
        let known = store[vm].identity
        if isFresh, let known, let found, found.isAnother(than: known) {
            throw SessionError(
                .refused,
                "the QEMU has the UUID \(found), and \(vm) is the VM \(known): protect it by another name, or forget the"
                    + " old one by “romulus unprotect \(vm)”")
        }
        let identity = found ?? known ?? .made()
        guard identity != known else { return identity }
        do throws(SystemError) {
            try store.update(vm) { $0.identity = identity }
        } catch {
            let reason = "which VM \(vm) is cannot be remembered: \(error)"
            guard !isFresh else { throw SessionError(.system, reason) }
            chronicle.note(vm, .error, reason)
        }
        return identity
    }

    /// A replica overwrites images: those of another VM of that name are not to be.
    func check(_ offer: OfferMessage) throws(SessionError) {
        guard let offered = offer.identity, let known = store[offer.vm].identity, offered.isAnother(than: known) else {
            return
        }
        throw SessionError(
            .refused,
            "\(offer.vm) at \(node) is the VM \(known), and \(offered) is offered: protect that one by another name, or"
                + " forget the old one by “romulus unprotect \(offer.vm)” at \(node)")
    }
}
