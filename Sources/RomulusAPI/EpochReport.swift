import Model

/// `EpochTimings` as it is shown: durations in milliseconds, sizes in bytes.
public struct EpochReport: Codable, Hashable, Sendable {
    public var epoch: UInt64
    /// How long the guest ran before the checkpoint.
    public var run: Double
    public var pause: Double
    public var stop: Double
    public var scan: Double
    public var copy: Double
    public var deviceState: Double
    public var resume: Double
    public var encode: Double
    /// From the last frame to the acknowledgement.
    public var transfer: Double
    /// From the guest running again to the acknowledgement.
    public var acknowledge: Double
    /// From the acknowledgement to the epoch's output having left.
    public var release: Double
    /// How long the output that came first was held.
    public var held: Double
    public var dirtyPages: UInt64
    public var precopiedPages: UInt64
    public var memoryBytes: UInt64
    public var diskBytes: UInt64
    public var deviceStateBytes: UInt64
    /// As it was sent.
    public var deviceStateSentBytes: UInt64
    public var linkBytes: UInt64
    public var heldFrames: UInt64
    public var heldBytes: UInt64

    public init(_ timings: EpochTimings) {
        func milliseconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds) / 1e6 }
        epoch = timings.epoch.number
        run = milliseconds(timings.run)
        pause = milliseconds(timings.pause)
        stop = milliseconds(timings.stop)
        scan = milliseconds(timings.scan)
        copy = milliseconds(timings.copy)
        deviceState = milliseconds(timings.deviceState)
        resume = milliseconds(timings.resume)
        encode = milliseconds(timings.encode)
        transfer = milliseconds(timings.transfer)
        acknowledge = milliseconds(timings.acknowledge)
        release = milliseconds(timings.release)
        held = milliseconds(timings.held)
        dirtyPages = timings.dirtyPages
        precopiedPages = timings.precopiedPages
        memoryBytes = timings.memoryBytes
        diskBytes = timings.diskBytes
        deviceStateBytes = timings.deviceStateBytes
        deviceStateSentBytes = timings.deviceStateSentBytes
        linkBytes = timings.linkBytes
        heldFrames = timings.heldFrames
        heldBytes = timings.heldBytes
    }

    enum CodingKeys: String, CodingKey {
        case epoch
        case run = "run_ms"
        case pause = "pause_ms"
        case stop = "stop_ms"
        case scan = "scan_ms"
        case copy = "copy_ms"
        case deviceState = "device_state_ms"
        case resume = "resume_ms"
        case encode = "encode_ms"
        case transfer = "transfer_ms"
        case acknowledge = "acknowledge_ms"
        case release = "release_ms"
        case held = "held_ms"
        case dirtyPages = "dirty_pages"
        case precopiedPages = "precopied_pages"
        case memoryBytes = "memory_bytes"
        case diskBytes = "disk_bytes"
        case deviceStateBytes = "device_state_bytes"
        case deviceStateSentBytes = "device_state_sent_bytes"
        case linkBytes = "link_bytes"
        case heldFrames = "held_frames"
        case heldBytes = "held_bytes"
    }
}
