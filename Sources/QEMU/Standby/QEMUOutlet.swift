import Hypervisor
import LinuxSystem
import Model

/// The way out through a filter in a NIC's netdev.
final class QEMUOutlet: NICOutlet {
    private var filter: OutputFilter
    private let monitor: QMPConnection

    init(_ filter: consuming OutputFilter, _ monitor: QMPConnection) {
        self.filter = filter
        self.monitor = monitor
    }

    func send(_ frames: [UInt8]) {
        do throws(SystemError) {
            try frames.withUnsafeBufferPointer { (bytes) throws(SystemError) in
                try filter.release.writeAll(UnsafeRawBufferPointer(bytes))
            }
        } catch {
            // Lost frames are what networks lose: their senders send them again.
        }
    }

    func remove() throws(SessionError) {
        do throws(DeviceError) { try filter.remove(monitor) } catch { throw SessionError(.qemu, "\(error)") }
    }
}
