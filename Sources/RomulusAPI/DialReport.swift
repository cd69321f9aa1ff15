import Model

/// A level that was asked for and is not in force.
public struct DialReport: Codable, Hashable, Sendable {
    public var asked: Level
    /// Why not; nil while it is being turned to.
    public var reason: String?

    public init(asked: Level, reason: String?) {
        self.asked = asked
        self.reason = reason
    }
}
