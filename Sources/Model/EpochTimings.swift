/// What one epoch cost the guest and the link: the one record that the log, the metrics, `romulus status` and `romulus top`
/// are made from. It is whole when the epoch's output has left. All durations are in nanoseconds, all sizes in bytes.
public struct EpochTimings: Sendable, Codable, Hashable {
    public var epoch = Epoch.firstCopy
    /// How long the guest ran before it was stopped for the checkpoint.
    public var run: UInt64 = 0
    /// From the `stop` command to the guest running again.
    public var pause: UInt64 = 0
    public var stop: UInt64 = 0
    public var scan: UInt64 = 0
    public var copy: UInt64 = 0
    public var deviceState: UInt64 = 0
    public var resume: UInt64 = 0
    public var encode: UInt64 = 0
    /// From the last frame being given to the link to the acknowledgement.
    public var transfer: UInt64 = 0
    /// From the guest running again to the acknowledgement.
    public var acknowledge: UInt64 = 0
    /// From the acknowledgement to the epoch's output having left.
    public var release: UInt64 = 0
    /// How long the output that came first was held; 0 when there was none.
    public var held: UInt64 = 0
    /// Pages that were copied; one that was copied before the pause and written again counts twice.
    public var dirtyPages: UInt64 = 0
    /// Those of them that were copied before the pause, while the guest ran.
    public var precopiedPages: UInt64 = 0
    public var memoryBytes: UInt64 = 0
    public var diskBytes: UInt64 = 0
    /// The device state as QEMU wrote it.
    public var deviceStateBytes: UInt64 = 0
    /// The same as it went into the frames: the difference to the epoch before.
    public var deviceStateSentBytes: UInt64 = 0
    /// What was put on the link for this epoch, all contents and framing included.
    public var linkBytes: UInt64 = 0
    /// Memory that the references of the guest's pages take after it.
    public var referenceBytes: UInt64 = 0
    public var heldFrames: UInt64 = 0
    public var heldBytes: UInt64 = 0
    /// When the guest ran again, by `MonotonicClock`; for whoever completes the record.
    public var resumedAt: UInt64 = 0

    public init() {}
}
