import Hypervisor
import LinuxSystem
import Logging
import Model
import TapDetour

/// A NIC whose output is led through us at its tap, whoever serves it.
final class QEMUDetour: NICTap {
    private var detour: Detour?
    private let nic: OfferedNIC
    private let process: GuestProcess
    private let log: Logger
    let heldDescriptor: Int32

    init(_ detour: consuming Detour, _ nic: OfferedNIC, _ process: GuestProcess, _ log: Logger) {
        heldDescriptor = detour.descriptor
        self.detour = consume detour
        self.nic = nic
        self.process = process
        self.log = log
    }

    /// Nothing of a guest that lives leaves before somebody says so; of one that is dead nothing can, and its tap may be
    /// another's next.
    deinit {
        if !process.isAlive, let detour = detour.take() { try? detour.remove() }
    }

    var releaseDescriptor: Int32 { heldDescriptor }
    var isDevice: Bool { true }

    func remove() throws(SessionError) {
        guard let detour = detour.take() else { return }
        if let dropped = try? detour.droppedFrames(), dropped > 0 {
            log.warning(
                "\(dropped) frames of NIC \(nic.netdev) of \(process.vm) were lost: this agent did not read them in time"
            )
        }
        do throws(DetourError) {
            try detour.remove()
        } catch {
            throw SessionError(.system, "the output of NIC \(nic.netdev) cannot be let go: \(error)")
        }
    }
}
