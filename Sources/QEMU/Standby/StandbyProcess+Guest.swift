import Hypervisor
import LinuxSystem
import Model
import TapDetour

/// What is asked of a standby's QEMU whether it waits for a state or boots.
extension StandbyProcess {
    func servingThreads() throws(SessionError) -> [Int32] {
        do {
            return try monitor.servingThreads()
        } catch {
            throw SessionError(.qemu, "\(error)")
        }
    }

    func outlet(of nic: GuestNIC, index: UInt16) throws(SessionError) -> any NICOutlet {
        do {
            let own = try self.nic(like: nic)
            let interface = ProcessFiles.sharesNetwork(with: pid) ? own.interface : nil
            if nic.holding == .tap {
                guard let interface else {
                    throw SessionError(
                        .refused,
                        "the primary holds what NIC \(nic.name) sends at its tap, and here that NIC is on no tap of the agent's"
                            + " network: give it one in the VM's standby taps")
                }
                return try DetouredOutlet(of: interface)
            }
            // Of a session in which this host was the primary.
            if let interface { _ = try? Detour.removeLeftovers(of: interface) }
            return QEMUOutlet(
                try OutputFilter.install(monitor, netdev: own.netdev ?? "", index: Int(index), holding: false), monitor)
        } catch let error as SessionError {
            throw error
        } catch {
            throw SessionError(.refused, "\(error)")
        }
    }
}
