/// How far a VM at level `system` may fall by itself when it cannot be held there.
public enum DegradePolicy: String, Sendable, CaseIterable {
    case never, restart, component

    /// The lowest level that it falls to; nil where it stays, whatever that costs the guest.
    public var floor: Level? { Level(rawValue: rawValue) }
}
