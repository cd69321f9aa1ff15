/// Why a session ended, or did not begin: a stable code for programs and one sentence for people.
public struct SessionError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable, Codable {
        /// The VM, the host or the request cannot be served as it is; nothing was changed.
        case refused
        /// The standby said no; nothing was changed.
        case standbyRefused
        /// The peer cannot be reached, or was lost.
        case peerLost
        /// The peer sent what the protocol does not allow.
        case protocolBroken
        /// QEMU did not do what was asked.
        case qemu
        /// The guest's QEMU is gone.
        case guestLost
        /// The operating system refused something.
        case system
        /// A disk or an image failed.
        case storage
        /// A disk of the guest hangs at the guest's own host.
        case diskHangs
    }

    public var code: Code
    public var message: String
    /// With `refused`: what this host knows of who may run the VM.
    public var knows: Register?

    public init(_ code: Code, _ message: String, knows: Register? = nil) {
        self.code = code
        self.message = message
        self.knows = knows
    }

    public var description: String { message }
}
