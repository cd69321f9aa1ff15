/// A program that makes sure that a node is off, as the operator configured it. It is run without a shell.
public struct FenceCommand: Sendable, Equatable {
    /// The program, by its absolute path, and its arguments.
    public var command: [String]
    /// How long it may take; 100 ms to 10 minutes.
    public var timeoutMilliseconds: Int
    /// How long is waited before it is started; nil leaves it to who asks (`FencingRole`).
    public var delayMilliseconds: Int?

    public init(command: [String], timeoutMilliseconds: Int = 20_000, delayMilliseconds: Int? = nil) {
        self.command = command
        self.timeoutMilliseconds = timeoutMilliseconds
        self.delayMilliseconds = delayMilliseconds
    }
}

/// Who wants the peer off. Hosts that lost only each other both want it: the one with the guest goes first, because its
/// guest need not be brought up again and nothing has to be copied.
public enum FencingRole: Sendable {
    case primary, standby

    /// Milliseconds before the command is started, where the configuration says nothing: for a standby longer than fence
    /// devices usually take, so that it is off by then if the primary lives.
    public var defaultDelayMilliseconds: Int {
        switch self {
        case .primary: 0
        case .standby: 3000
        }
    }
}

/// What came of a fence command. Only the first is a confirmation.
public enum FenceOutcome: Sendable, Equatable {
    /// It ended with exit code 0.
    case confirmed
    /// Why not, as part of a sentence.
    case failed(String)
    case tookTooLong
}
