/// What a host sees of a bridge's way to the network, and of the other host through it.
public struct UplinkSight: Hashable, Sendable {
    /// The bridge has members by which a network can be reached.
    public var isThere: Bool
    /// One of them has a carrier.
    public var isConnected: Bool
    /// How many probes of the other host were missed in a row, 0 while it is heard; nil where none are expected.
    public var missed: UInt32?
    /// From how many addresses anything was heard during the last 0.8 s in which probes were missed.
    public var sources: UInt32

    public init(isThere: Bool, isConnected: Bool, missed: UInt32?, sources: UInt32) {
        self.isThere = isThere
        self.isConnected = isConnected
        self.missed = missed
        self.sources = sources
    }
}
