import Model

/// How long to wait before a node is asked again to be the standby: longer each time that it fails for one reason.
public struct RetryPace: Sendable, Equatable {
    public enum Cause: Sendable, Equatable {
        /// It was not reached, or was lost: it may be back any moment.
        case lost
        /// It said no: somebody has to do something about it first.
        case refused

        /// In nanoseconds.
        var longest: UInt64 {
            switch self {
            case .lost: 8_000_000_000
            case .refused: 32_000_000_000
            }
        }
    }

    /// The wait after a first failure, in nanoseconds.
    public static let shortest: UInt64 = 2_000_000_000

    /// Before the next time, in nanoseconds.
    public var wait: UInt64 { max(backOff.wait, Self.shortest) }
    /// Whether the last failure was of another cause or reason than the one before; figures in it make no other reason.
    public private(set) var isNews = true
    private var backOff = RetryPace.backOff(.lost)
    private var last: (cause: Cause, reason: String)?

    public init() {}

    public mutating func failed(_ cause: Cause, _ reason: String) {
        let reason = String(reason.filter { !$0.isNumber })
        isNews = last.map { $0 != (cause, reason) } ?? true
        if isNews { backOff = Self.backOff(cause) }
        _ = backOff.fail()
        last = (cause, reason)
    }

    private static func backOff(_ cause: Cause) -> BackOff { BackOff(first: shortest, most: cause.longest) }

    /// It went well, or somebody asks for it now: the next failure is a first one.
    public mutating func reset() { self = RetryPace() }

    public static func == (left: RetryPace, right: RetryPace) -> Bool {
        left.backOff == right.backOff && left.isNews == right.isNews && left.last?.cause == right.last?.cause
            && left.last?.reason == right.last?.reason
    }
}
