import Hypervisor
import Model

/// Starts a guest that died on this host anew from its disks, on this host. Blocks; used by one thread.
public protocol GuestStarter: Sendable {
    /// Makes the process that is to run it, which stands still: nothing of the guest runs. Throws `refused` where it is to stay
    /// down, for that reason; whatever else it throws may be tried again.
    func makeReady(_ guest: GuestDescription) throws(SessionError) -> any ReadyGuest
    /// How many starts the other host is told of, where it may start a guest that cannot be started here; nil where it may not.
    func startsToTell() -> Int?
}

/// A guest that could start. Used by one thread.
public protocol ReadyGuest: AnyObject {
    /// Lets it run; it lives on by itself. After a failure it is gone.
    func run() throws(SessionError) -> StartedGuest
    /// Ends it; it never ran.
    func discard()
}
