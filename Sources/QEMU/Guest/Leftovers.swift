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
        return nics.compactMap(\.interface).filter { interface in
            // Who may not look at them cannot have made any.
            (try? Detour.removeLeftovers(of: interface)) == true
        }.map { "the detour of \($0)" }
    }
}
