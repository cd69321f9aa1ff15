import Foundation

/// A NIC of the guest whose frames travel through the other host, at level `component`.
public struct CarriedReport: Codable, Hashable, Sendable {
    /// QEMU's name of its netdev.
    public var nic: String
    /// The bridge of the guest's host whose way to the network is lost.
    public var bridge: String
    public var reason: String
    public var since: Date

    public init(nic: String, bridge: String, reason: String, since: Date) {
        self.nic = nic
        self.bridge = bridge
        self.reason = reason
        self.since = since
    }
}
