/// Faults that the tests plant on purpose, to show that their verifier finds them. The agent never sets any: only the
/// test bed's own build of it does.
public struct PlantedFaults: OptionSet, Sendable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }

    /// Output leaves as soon as its epoch is cut, without waiting for the acknowledgement.
    public static let releaseBeforeAcknowledgement = PlantedFaults(rawValue: 1)
    /// One dirty page of every epoch is not sent.
    public static let skipDirtyPage = PlantedFaults(rawValue: 2)
    /// Now and then a disk write is acknowledged to the guest but not sent.
    public static let skipDiskWrite = PlantedFaults(rawValue: 4)
    /// The device state of a switchover's last checkpoint names a device that no QEMU has.
    public static let spoilLastState = PlantedFaults(rawValue: 8)
    /// Two seconds after the agent's start one of its event loops stands still.
    public static let blockEventLoop = PlantedFaults(rawValue: 16)
    /// Disks count as if they could not write into memory unseen.
    public static let forgetPins = PlantedFaults(rawValue: 32)

    /// As `spoilLastState`, at every checkpoint.
    public static let spoilStates = PlantedFaults(rawValue: 64)

    public init?(name: String) {
        switch name {
        case "release-before-acknowledgement": self = .releaseBeforeAcknowledgement
        case "skip-dirty-page": self = .skipDirtyPage
        case "skip-disk-write": self = .skipDiskWrite
        case "spoil-last-state": self = .spoilLastState
        case "spoil-states": self = .spoilStates
        case "block-event-loop": self = .blockEventLoop
        case "forget-pins": self = .forgetPins
        default: return nil
        }
    }
}
