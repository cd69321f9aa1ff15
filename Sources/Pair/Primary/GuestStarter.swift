import Hypervisor
import Model

/// Starts a guest that died on this host anew from its disks, on this host. Blocks; used by one thread.
public protocol GuestStarter: Sendable {
    /// Returns when it runs. Throws `refused` where it is to stay down, for that reason; whatever else it throws may be tried
    /// again.
    func start(_ guest: GuestDescription) throws(SessionError) -> StartedGuest
}
