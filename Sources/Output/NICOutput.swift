import GuestNetwork
import Hypervisor
import LinuxSystem
import Model

/// The output of one NIC of a protected guest: what takes it out of the way to the network, and the gate on that way.
package final class NICOutput {
    package let gate: OutputGate
    private let tap: any NICTap

    /// What the guest sends takes the way through the gate from here on, unheld.
    /// `firstHeld` is called when the first output of an epoch is held.
    package init(
        _ nic: OfferedNIC, of guest: any Guest, firstHeld: @escaping @Sendable () -> Void
    ) throws(SessionError) {
        tap = try guest.tap(nic)
        // A gate that cannot be made is the end of the session, whose next start takes the tap out.
        do throws(SystemError) {
            gate =
                tap.isDevice
                ? try OutputGate(nic: nic.index, device: tap.heldDescriptor, firstHeld: firstHeld)
                : try OutputGate(
                    nic: nic.index, mac: guest.description.nics.first { $0.netdev == nic.netdev }?.mac,
                    hold: tap.heldDescriptor, release: tap.releaseDescriptor, firstHeld: firstHeld)
        } catch {
            throw SessionError(.system, "the output of NIC \(nic.netdev) cannot be held: \(error)")
        }
    }

    /// Takes itself out of the way. Call while the guest stands still, after what may leave has left.
    package func detach() throws(SessionError) { try tap.remove() }
}
