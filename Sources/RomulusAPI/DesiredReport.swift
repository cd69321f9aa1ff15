import FoundationEssentials
import Model

/// What is wanted of a VM's protection, and what stands in the way.
public struct DesiredReport: Codable, Hashable, Sendable {
    public var protect: Desire
    /// Why it is not protected although it should be, in one sentence; nil when it is, or is about to be.
    public var reason: String?
    /// When it is tried again; nil when it is not a matter of time.
    public var nextTry: Date?
    /// How often it failed since it last worked, or since its QEMU is the one that it is.
    public var failures: Int
    /// The host that has its guest, where this one waits for a QEMU of it.
    public var elsewhere: NodeName?

    public init(
        protect: Desire, reason: String? = nil, nextTry: Date? = nil, failures: Int = 0, elsewhere: NodeName? = nil
    ) {
        self.protect = protect
        self.reason = reason
        self.nextTry = nextTry
        self.failures = failures
        self.elsewhere = elsewhere
    }

    enum CodingKeys: String, CodingKey {
        case protect, reason, failures, elsewhere
        case nextTry = "next_try"
    }
}
