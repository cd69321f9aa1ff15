import Model

/// One session as the primary sees it.
public struct SessionProgress: Sendable, Equatable {
    public var id: SessionID
    public var standby: StandbyIdentity
    public var sealed = Epoch.firstCopy
    public var acknowledged = Epoch.firstCopy
    /// The epoch after which the guest stands still for a switchover.
    public var last: Epoch?
    /// A switchover was asked for, and the arbiter is read before the guest is stopped.
    public var isSounding = false
    /// The gate that stands in place of holding is there, and a lease that was confirmed opens it (I36).
    public var isGuarded = false

    public init(id: SessionID, standby: StandbyIdentity) {
        self.id = id
        self.standby = standby
    }
}
