import Foundation

/// A disk of which the guest goes on with the standby's copy.
public struct DiskLossReport: Codable, Hashable, Sendable {
    public var disk: String
    public var reason: String
    public var since: Date
    /// What it lacks is being copied to it.
    public var isRejoining: Bool
    /// The most that it may lack, in bytes.
    public var staleBytes: UInt64

    public init(disk: String, reason: String, since: Date, isRejoining: Bool, staleBytes: UInt64) {
        self.disk = disk
        self.reason = reason
        self.since = since
        self.isRejoining = isRejoining
        self.staleBytes = staleBytes
    }

    enum CodingKeys: String, CodingKey {
        case disk, reason, since
        case isRejoining = "rejoining"
        case staleBytes = "stale_bytes"
    }
}
