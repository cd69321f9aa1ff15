/// What one epoch cost the guest and the link; its fields feed the log, the metrics and `romulus status`.
/// All durations are in nanoseconds, all sizes in bytes.
public struct EpochTimings: Sendable, Codable, Hashable {
    public var epoch = Epoch.firstCopy
    /// From the `stop` command to the guest running again.
    public var pause: UInt64 = 0
    public var stop: UInt64 = 0
    public var scan: UInt64 = 0
    public var copy: UInt64 = 0
    public var deviceState: UInt64 = 0
    public var resume: UInt64 = 0
    public var encode: UInt64 = 0
    /// From the guest running again to the acknowledgement.
    public var acknowledge: UInt64 = 0
    /// Pages that were copied; one that was copied before the pause and written again counts twice.
    public var dirtyPages: UInt64 = 0
    /// Those of them that were copied before the pause, while the guest ran.
    public var precopiedPages: UInt64 = 0
    public var memoryBytes: UInt64 = 0
    public var diskBytes: UInt64 = 0
    public var deviceStateBytes: UInt64 = 0
    /// What was put on the link for this epoch, all contents and framing included.
    public var linkBytes: UInt64 = 0
    public var heldFrames: UInt64 = 0
    public var heldBytes: UInt64 = 0

    public init() {}
}
