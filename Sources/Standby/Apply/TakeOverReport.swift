import Model

/// When the steps of a failover were done, in nanoseconds after the decision.
public struct TakeOverReport: Sendable, Codable {
    public var epoch = Epoch.firstCopy
    /// The guest's memory was lost: it was booted from its disk as of that epoch.
    public var isBooted = false
    /// Its level has no memory of it here: it was started from its disks, as they were written to last.
    public var isStarted = false
    /// The guest ran.
    public var decisionToRunning: UInt64 = 0
    /// QEMU had the state; 0 where it had it before.
    public var decisionToLoaded: UInt64 = 0
    /// This host had won, and that was on stable storage.
    public var decisionToRecorded: UInt64 = 0
    /// Frames of committed epochs that were let out here because the primary had not reported their release.
    public var framesReleased = 0
    public var qmpPath = ""
    public var qemuPID: Int32 = 0

    public init() {}
}
