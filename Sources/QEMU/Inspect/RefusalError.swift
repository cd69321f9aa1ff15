/// One reason why a VM cannot be protected as it runs now.
public struct Refusal: Error, Hashable, Sendable, Codable, CustomStringConvertible {
    public enum Code: String, Sendable, Codable {
        case monitor, process, architecture, version, state, memory, disk, nic, device, migration
    }
    public var code: Code
    /// The device, block, disk or NIC meant; empty when it is the VM as a whole.
    public var subject: String
    /// One sentence with the way out.
    public var message: String

    public init(_ code: Code, _ subject: String, _ message: String) {
        self.code = code
        self.subject = subject
        self.message = message
    }

    public var description: String { message }
}

/// Why a VM cannot be protected: all reasons at once, so that they can be repaired in one go.
public struct RefusalError: Error, Hashable, Sendable, Codable, CustomStringConvertible {
    public var refusals: [Refusal]

    public init(_ refusals: [Refusal]) { self.refusals = refusals }
    init(_ error: QMPError) { refusals = [Refusal(.monitor, "", error.description)] }

    public var description: String { refusals.map(\.message).joined(separator: "; ") }
}
