/// How many checkpoints of a guest may be on the way: sealed at the primary and not yet acknowledged.
///
/// Few are better: each holds its output here and takes room at the standby, and where the link is full, one more waits
/// behind the others and is acknowledged no sooner. But while the way to the standby and back takes longer than an epoch, as
/// many epochs as fit into it must be on the way for the guest not to wait for it. The way is told by the smallest
/// time in which an epoch was acknowledged lately: what queues on a full link makes that longer for some epochs, and it is
/// not the way (as TCP BBR tells the round trip, Cardwell et al., 2016). All times are nanoseconds.
public struct EpochDepth: Sendable, Equatable {
    /// Always allowed.
    public static let least: UInt64 = 3
    public static let most: UInt64 = 32
    /// The smallest time is that of at least this many epochs and at most twice as many.
    public static let window = 64

    /// The smallest time of the window that is complete, and of the one that is being filled.
    private var earlier = UInt64.max
    private var smallest = UInt64.max
    private var filled = 0
    /// From one checkpoint to the next, as a mean of some epochs.
    private var cycle: UInt64 = 0

    public init() {}

    /// An epoch was acknowledged `transfer` after its last frame was on the link.
    public mutating func acknowledged(after transfer: UInt64) {
        smallest = min(smallest, transfer)
        filled += 1
        guard filled == Self.window else { return }
        (earlier, smallest, filled) = (smallest, .max, 0)
    }

    /// A checkpoint came `latest` after the one before.
    public mutating func sealed(after latest: UInt64) {
        cycle = cycle == 0 ? latest : cycle - cycle / 4 + latest / 4
    }

    /// The way to the standby and back, with what the standby has to do for an epoch; nil before the first acknowledgement.
    public var roundTrip: UInt64? {
        let known = min(earlier, smallest)
        return known == .max ? nil : known
    }

    /// How many may be on the way now. Two more than fit: else the epochs that wait for room would be taken for long ones.
    public var allowed: UInt64 {
        guard let roundTrip, cycle > 0 else { return Self.least }
        return min(max(Self.least, roundTrip / cycle + 2), Self.most)
    }
}
