/// What libvirt said, or that it could not be asked: one sentence.
public struct LibvirtError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Sendable {
        /// The client library is not installed.
        case notInstalled
        /// The daemon cannot be reached, or does not answer.
        case unreachable
        case noSuchDomain
        /// The domain cannot have what was asked for.
        case refused
        case failed
    }

    public var reason: Reason
    public var message: String

    init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }

    public var description: String { message }
}
