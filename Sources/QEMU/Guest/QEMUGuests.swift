import Hypervisor
import Logging
import Model

/// Guests of QEMU processes on this host, found by their monitors' sockets.
public struct QEMUGuests: GuestSource {
    public init() {}

    public func open(
        _ vm: VMName, at address: String, log: Logger, elsewhere: (GuestDescription) -> [String]
    ) throws(SessionError) -> any Guest {
        try GuestHandle(vm: vm, qmpPath: address, log: log, elsewhere: elsewhere)
    }
}
