/// What an agent added to a VM and could not take away, because it ended or lost its monitor meanwhile.
public enum Leftovers {
    /// Takes all of it away and returns what it was, in words. To be called before protecting, and after reconnecting.
    public static func remove(_ monitor: QMPConnection) throws(QMPError) -> [String] {
        try OutputFilter.removeLeftovers(monitor) + MirrorJob.removeLeftovers(monitor)
            + DescriptorSet.removeLeftovers(monitor)
    }
}
