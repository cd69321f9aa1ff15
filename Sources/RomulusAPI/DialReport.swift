import Model

/// A level that was asked for and is not in force.
public struct DialReport: Codable, Hashable, Sendable {
    public var asked: Level
    /// Why not; nil while it is being turned to.
    public var reason: String?

    /// It fell to the level in force by itself, and climbs back; absent where it did not.
    public var isDegraded: Bool?

    enum CodingKeys: String, CodingKey {
        case asked, reason
        case isDegraded = "degraded"
    }

    public init(asked: Level, reason: String?) {
        self.asked = asked
        self.reason = reason
    }
}
