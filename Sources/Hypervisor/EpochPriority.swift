import LinuxSystem

/// Real-time priority of everything that a checkpoint waits for, undone with its owner.
public struct EpochPriority: ~Copyable {
    private let checkpoint: RealTimePriority
    /// Below the others: they need a processor for a moment, encoding may take one for as long as the guest wrote much.
    private let encoder: RealTimePriority?

    public init(checkpoint: consuming RealTimePriority, encoder: consuming RealTimePriority?) {
        self.checkpoint = checkpoint
        self.encoder = encoder
    }
}

extension RealTimePriority {
    /// Of whatever a checkpoint, or a guest that goes on from one, waits for.
    package static let checkpoint: Int32 = 5
}
