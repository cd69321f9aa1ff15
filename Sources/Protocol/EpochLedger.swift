import Model

/// The checkpoints of one session that are sealed and not acknowledged yet, and what those that were tell of the way to the
/// standby. A value without a clock: every time comes from the caller, in nanoseconds of one monotonic clock.
///
/// `Digest` is what the standby's acknowledgement must repeat.
public struct EpochLedger<Digest: Equatable & Sendable>: Sendable {
    private struct Entry {
        var epoch: Epoch
        var digest: Digest
        var timings: EpochTimings
        /// How long its frames had waited for the link when the last one was queued, and when that was.
        var waited: UInt64
        var sentAt: UInt64
    }

    /// Epochs of less say nothing of what the link carries, in bytes.
    public static var littleBytes: UInt64 { 64 << 10 }

    private var open: [Entry] = []
    private var depth = EpochDepth()
    private var transits: [UInt64] = []

    /// What the link carried at its best lately, in bytes per second; 0 before it carried much.
    public private(set) var linkBytesPerSecond = 0.0

    public init() {}

    /// Checkpoints that may be on the way now.
    public var inFlightMax: UInt64 { depth.allowed }
    /// The way to the standby and back; nil before the first acknowledgement.
    public var roundTrip: UInt64? { depth.roundTrip }

    /// A checkpoint came `latest` after the one before.
    public mutating func sealed(after latest: UInt64) { depth.sealed(after: latest) }

    /// The last frame of `epoch` is about to be queued; its frames `waited` for the link.
    public mutating func sent(
        _ epoch: Epoch, digest: Digest, timings: EpochTimings, waited: UInt64, at now: UInt64
    ) {
        open.append(Entry(epoch: epoch, digest: digest, timings: timings, waited: waited, sentAt: now))
    }

    /// The standby acknowledged `epoch`. Returns its timings, with those of its way; nil when it is not the oldest one that is
    /// waited for, or not as it was sent, which changes nothing.
    public mutating func acknowledged(_ epoch: Epoch, digest: Digest, at now: UInt64) -> EpochTimings? {
        guard let first = open.first, first.epoch == epoch, first.digest == digest else { return nil }
        open.removeFirst()
        var timings = first.timings
        timings.transfer = now - first.sentAt
        timings.acknowledge = now - timings.resumedAt
        note(transfer: timings.transfer, waited: first.waited, bytes: timings.linkBytes)
        transits.append(timings.acknowledge)
        return timings
    }

    /// How long each epoch took to be acknowledged once the guest ran again, since the last call.
    public mutating func takeTransits() -> [UInt64] {
        defer { transits.removeAll(keepingCapacity: true) }
        return transits
    }

    /// Small epochs, and those that took hardly longer than the way to the standby and back, say nothing of what the link
    /// carries.
    private mutating func note(transfer: UInt64, waited: UInt64, bytes: UInt64) {
        let roundTrip = depth.roundTrip ?? 0
        depth.acknowledged(after: transfer)
        guard bytes > Self.littleBytes, transfer + waited > roundTrip + roundTrip / 4 else { return }
        let rate = Double(bytes) * 1e9 / Double(transfer + waited - roundTrip)
        linkBytesPerSecond = max(rate, linkBytesPerSecond * 0.875)
    }
}
