import Hypervisor
import LinuxSystem
import TapDetour

/// What an agent added to a VM and could not take away, because it ended or lost its monitor meanwhile.
public enum Leftovers {
    /// Takes all of it away and returns what it was, in words. To be called before protecting, and after reconnecting.
    public static func remove(_ monitor: QMPConnection, _ nics: [GuestNIC] = []) throws(QMPError) -> [String] {
        try OutputFilter.removeLeftovers(monitor) + MirrorJob.removeLeftovers(monitor)
            + DescriptorSet.removeLeftovers(monitor) + removeDetours(monitor.peer.pid, nics)
    }

    private static func removeDetours(_ pid: Int32, _ nics: [GuestNIC]) -> [String] {
        // A tap of the same name in another network is not the guest's.
        guard ProcessFiles.sharesNetwork(with: pid) else { return [] }
        return nics.compactMap(\.interface).compactMap { interface in
            do throws(DetourError) {
                return try Detour.removeLeftovers(of: interface) ? "the detour of \(interface)" : nil
            } catch {
                // Who may not look at them cannot have made any, but an agent before may have had the right.
                return "perhaps a detour of \(interface), which cannot be looked for: \(error)"
            }
        }
    }
}
