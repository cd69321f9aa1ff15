import LinuxSystem

/// A stretch of time for which a guest stood still because of us.
public struct Standstill: Sendable, Equatable {
    /// What it is for. Whatever stops a guest names one of these.
    public enum Cause: String, Sendable, CaseIterable {
        case checkpoint
        /// Mirrors of its disks begin.
        case attach
        /// Mirrors and output filters are taken out.
        case detach
        /// More output waits for the standby than may.
        case output
        /// All of it is sealed, and the standby is to go on with it.
        case switchover
        /// Who may run it is being decided, by the operator if by nobody else.
        case frozen

        /// Longer ones are told of, in nanoseconds; a frozen guest's has no bound.
        public var bound: UInt64? {
            switch self {
            case .attach, .detach: 100_000_000
            case .checkpoint: 1_000_000_000
            case .output, .switchover: 2_000_000_000
            case .frozen: nil
            }
        }
    }

    /// What is waited for meanwhile. `docs/TRIALS.md` has the bound of each.
    public enum Wait: Int, Sendable, CaseIterable, CustomStringConvertible {
        case stop, copy, room, save, change, delivery, standby, resume

        public var description: String {
            switch self {
            case .stop: "QEMU to stop, and to drain and flush its disks"
            case .copy: "its memory to be looked through and copied"
            case .room: "room for its pages"
            case .save: "QEMU to save its devices"
            case .change: "QEMU to take mirrors and filters in or out"
            case .delivery: "QEMU to take output that was let out"
            case .standby: "the standby"
            case .resume: "QEMU to let it run on"
            }
        }
    }

    public var cause: Cause
    /// How long it was.
    public var nanoseconds: UInt64
    /// What most of it went to, and how much.
    public var longest: Wait
    public var waited: UInt64
    /// It is beyond its cause's bound, and longer than twice the longest one of this session that was told of.
    public var isToBeTold: Bool

    public init(cause: Cause, nanoseconds: UInt64, longest: Wait, waited: UInt64, isToBeTold: Bool) {
        self.cause = cause
        self.nanoseconds = nanoseconds
        self.longest = longest
        self.waited = waited
        self.isToBeTold = isToBeTold
    }
}

/// Measures the stretches for which one guest stands still, and each wait within: every time that passes is accounted for by
/// what it was waited for.
public struct StandstillClock {
    /// Called at the end of each; in a release build of short checkpoints' not.
    public var report: (Standstill) -> Void = { _ in }
    private var cause: Standstill.Cause?
    private var began: UInt64 = 0
    /// Until when it is accounted for.
    private var reached: UInt64 = 0
    private var waits = [UInt64](repeating: 0, count: Standstill.Wait.allCases.count)
    private var told: [Standstill.Cause: UInt64] = [:]

    #if DEBUG
        private static let reportsAll = true
    #else
        private static let reportsAll = false
    #endif

    public init() {}

    /// The guest is about to stand still. One that does already waited for the standby since the last word, and goes on doing
    /// so for what it began with.
    public mutating func begin(_ cause: Standstill.Cause, now: UInt64 = MonotonicClock.now()) {
        if self.cause != nil { return passed(.standby, now: now) }
        self.cause = cause
        (began, reached) = (now, now)
        for index in waits.indices { waits[index] = 0 }
    }

    /// It goes on for something else.
    public mutating func become(_ cause: Standstill.Cause) {
        if self.cause != nil { self.cause = cause }
    }

    /// What has passed since the last word went to `wait`.
    public mutating func passed(_ wait: Standstill.Wait, now: UInt64 = MonotonicClock.now()) {
        guard cause != nil else { return }
        waits[wait.rawValue] += now - reached
        reached = now
    }

    /// The guest runs again, or is gone: what has passed since the last word went to `wait`.
    public mutating func end(after wait: Standstill.Wait, now: UInt64 = MonotonicClock.now()) {
        passed(wait, now: now)
        guard let ended = cause.take() else { return }
        let took = now - began
        let isTooLong = ended.bound.map { took > $0 && took > 2 * (told[ended] ?? 0) } ?? false
        guard isTooLong || ended != .checkpoint || Self.reportsAll else { return }
        if isTooLong { told[ended] = took }
        let longest = Standstill.Wait.allCases.max { waits[$0.rawValue] < waits[$1.rawValue] } ?? wait
        report(
            Standstill(
                cause: ended, nanoseconds: took, longest: longest, waited: waits[longest.rawValue],
                isToBeTold: isTooLong))
    }

    /// It is somebody else who has stopped the guest.
    public mutating func forget() { cause = nil }
}
