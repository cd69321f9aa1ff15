import LinuxSystem
import Model
import QEMU

/// The way out at a standby for one NIC's held frames.
package final class StandbyOutput {
    package let nic: UInt16
    private var filter: OutputFilter

    package init(_ nic: OfferedNIC, netdev: String, _ monitor: QMPConnection) throws(DeviceError) {
        self.nic = nic.index
        filter = try OutputFilter.install(monitor, netdev: netdev, index: Int(nic.index), holding: false)
    }

    package func send(_ bytes: [UInt8]) {
        do throws(SystemError) {
            try bytes.withUnsafeBufferPointer { (bytes) throws(SystemError) in
                try filter.release.writeAll(UnsafeRawBufferPointer(bytes))
            }
        } catch {
            // Lost frames are what networks lose: their senders send them again.
        }
    }

    package func detach(_ monitor: QMPConnection) throws(DeviceError) { try filter.remove(monitor) }
}
