/// Something that befell a replicated disk at the guest's own host.
public struct DiskFault: Sendable, Equatable, CustomStringConvertible {
    public enum Kind: String, Sendable {
        case read, write
        /// The disks do not end what they have begun.
        case hang
    }

    /// The drive's name; nil where it may be any of them.
    public var disk: String?
    public var kind: Kind
    /// In the hypervisor's words, or for how long it hung.
    public var reason: String

    public init(disk: String?, _ kind: Kind, reason: String) {
        self.disk = disk
        self.kind = kind
        self.reason = reason
    }

    public var description: String {
        let subject = disk.map { "disk \($0)" } ?? "a disk"
        return kind == .hang ? "\(subject) hangs: \(reason)" : "a \(kind.rawValue) of \(subject) failed (\(reason))"
    }
}

/// For how long disks may keep whoever wants them drained waiting.
public struct DiskBound: Sendable {
    /// In nanoseconds.
    public var limit: UInt64
    /// True while it is we who keep them waiting.
    public var isHeldUp: @Sendable () -> Bool

    public init(limit: UInt64, isHeldUp: @escaping @Sendable () -> Bool) {
        self.limit = limit
        self.isHeldUp = isHeldUp
    }
}

/// One wait for disks that are being drained: time in which they, or whoever waits, were kept from running does not count.
public struct DiskPatience: Sendable {
    /// Nil waits on.
    public let bound: DiskBound?
    private var waited: UInt64 = 0
    private var lookedAt: UInt64

    /// Whoever waits looks more often, unless it was stopped itself, in nanoseconds.
    private static let stepMax: UInt64 = 200_000_000
    /// A drain of disks that work is over before anything is looked at, in nanoseconds: whoever waits may look every few
    /// microseconds then.
    private static let quiet: UInt64 = 50_000_000

    public init(_ bound: DiskBound?, now: UInt64) {
        self.bound = bound
        lookedAt = now
    }

    /// True when the limit is passed. Called again and again; `isHalted` says whether somebody keeps the disks' process from
    /// running.
    public mutating func isOver(at now: UInt64, isHalted: () -> Bool) -> Bool {
        guard let bound, waited > 0 || now >= lookedAt + Self.quiet else { return false }
        waited += min(now - lookedAt, Self.stepMax)
        lookedAt = now
        if bound.isHeldUp() || isHalted() { waited = 0 }
        return waited > bound.limit
    }
}
