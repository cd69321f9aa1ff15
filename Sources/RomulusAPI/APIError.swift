/// Why a request was not done: a stable code for programs and one sentence for people.
public struct APIError: Error, Codable, Hashable, Sendable, CustomStringConvertible {
    /// The codes are part of the API; each belongs to one exit code of `romulus` and one HTTP status.
    public enum Code: String, Codable, Hashable, Sendable, CaseIterable {
        /// It was tried and did not work.
        case failed
        case noSuchVM = "no_such_vm"
        case noSuchPeer = "no_such_peer"
        /// It was not tried: the VM cannot be protected, or what was asked is unsafe in the present state.
        case refused
        case timeout
        /// Made by the client only: there is no agent to ask.
        case agentUnreachable = "agent_unreachable"
        /// The request is malformed: a wrong path, value or body.
        case badRequest = "bad_request"

        /// A code that this build does not know (the agent may be newer) is read as `failed`; its message still tells.
        public init(from decoder: any Decoder) throws {
            self = Code(rawValue: try decoder.singleValueContainer().decode(String.self)) ?? .failed
        }

        public var httpStatus: Int {
            switch self {
            case .failed: 500
            case .noSuchVM, .noSuchPeer: 404
            case .refused: 409
            case .timeout: 504
            case .agentUnreachable: 503
            case .badRequest: 400
            }
        }

        public var exitStatus: ExitStatus {
            switch self {
            case .failed: .failed
            case .noSuchVM, .noSuchPeer: .notFound
            case .refused: .refused
            case .timeout: .timeout
            case .agentUnreachable: .agentUnreachable
            case .badRequest: .usage
            }
        }
    }

    public var code: Code
    /// One sentence: what, where, why, and the way out.
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

/// The body of every reply that is not a success: `{"error": {"code": …, "message": …}}`.
public struct ErrorReply: Codable, Hashable, Sendable {
    public var error: APIError

    public init(_ error: APIError) {
        self.error = error
    }
}

/// What `romulus` exits with; listed in `docs/CLI.md`.
public enum ExitStatus: Int32, Sendable, CaseIterable {
    case ok = 0
    case failed = 1
    /// `status --check`: not protected at this moment, and Romulus is working at it.
    case degraded = 2
    /// `status --check`: unprotected until somebody acts.
    case unprotected = 3
    case notFound = 4
    case refused = 5
    case timeout = 6
    case agentUnreachable = 7
    /// `verify`: pages of the replica differed.
    case differing = 8
    case usage = 64
}
