import Model

extension Custody {
    /// Why this host cannot be the standby at that level; nil when it can.
    package func reasonToRefuse(_ level: Level) -> String? {
        guard !level.holdsOutput, leases == nil else { return nil }
        return "\(node) has no arbiter, and at level \(level.rawValue) only one tells when the primary's guest is"
            + " silenced: configure an arbiter, or protect at level system"
    }
}
