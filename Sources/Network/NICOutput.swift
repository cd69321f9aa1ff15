import GuestNetwork
import LinuxSystem
import Model
import QEMU

/// The output of one NIC of a protected guest: QEMU's two filters and the gate between them.
package final class NICOutput {
    package let gate: OutputGate
    private var filter: OutputFilter
    private let guest: GuestHandle

    /// Puts the filters into the netdev; what the guest sends takes the way through the gate from here on, unheld.
    /// `firstHeld` is called when the first output of an epoch is held.
    package init(
        _ nic: OfferedNIC, guest: GuestHandle, firstHeld: @escaping @Sendable () -> Void
    ) throws(SessionError) {
        self.guest = guest
        do throws(DeviceError) {
            filter = try OutputFilter.install(guest.monitor, netdev: nic.netdev, index: Int(nic.index), holding: true)
        } catch {
            throw guest.deviceFailed("the output of NIC \(nic.netdev)", error)
        }
        // A gate that cannot be made is the end of the session, whose next start takes the filters out.
        do throws(SystemError) {
            gate = try OutputGate(
                nic: nic.index, mac: guest.description.nics.first { $0.netdev == nic.netdev }?.mac,
                hold: filter.heldDescriptor, release: filter.release.number, firstHeld: firstHeld)
        } catch {
            throw SessionError(.system, "the output of NIC \(nic.netdev) cannot be held: \(error)")
        }
    }

    /// Takes the filters out. Call while the guest stands still, after what may leave has left.
    package func detach() throws(DeviceError) { try filter.remove(guest.monitor) }
}
