import Model

/// When something happened: by the wall clock for people, by the boot's clock for order and for durations.
public struct JournalTime: Hashable, Sendable {
    /// Nanoseconds since 1970 UTC, CLOCK_REALTIME. It may jump.
    public var wall: Int64
    /// Nanoseconds since the boot, CLOCK_BOOTTIME: never jumps, and counts time asleep.
    public var boot: Int64
    /// Which boot, as `/proc/sys/kernel/random/boot_id` names it. Two values of `boot` compare only within one.
    public var bootID: String

    public init(wall: Int64, boot: Int64, bootID: String) {
        self.wall = wall
        self.boot = boot
        self.bootID = bootID
    }
}

/// One entry of the journal.
public struct JournalEvent: Hashable, Sendable, Identifiable {
    /// Grows with each event. A start of the agent may leave a gap.
    public var id: UInt64
    public var time: JournalTime
    /// Nil when it concerns the agent as a whole.
    public var vm: VMName?
    public var term: Term?
    public var epoch: Epoch?
    public var kind: EventKind
    /// One sentence.
    public var text: String
    /// The event that led to this one.
    public var cause: UInt64?

    public init(
        id: UInt64, time: JournalTime, vm: VMName? = nil, term: Term? = nil, epoch: Epoch? = nil, kind: EventKind,
        text: String, cause: UInt64? = nil
    ) {
        self.id = id
        self.time = time
        self.vm = vm
        self.term = term
        self.epoch = epoch
        self.kind = kind
        self.text = text
        self.cause = cause
    }
}

/// Which events are wanted. All conditions hold together.
public struct JournalQuery: Hashable, Sendable {
    public var vm: VMName?
    /// Empty: all.
    public var kinds: [EventKind] = []
    /// Nanoseconds since 1970 UTC.
    public var since: Int64?
    /// Ids above this one.
    public var after: UInt64 = 0
    public var limit = 1000
    /// When there are more than `limit`: the newest of them instead of the oldest. Either way they come oldest first.
    public var newest = false

    public init(vm: VMName? = nil) {
        self.vm = vm
    }

    package func matches(_ event: JournalEvent) -> Bool {
        event.id > after && (vm == nil || event.vm == vm) && (kinds.isEmpty || kinds.contains(event.kind))
            && event.time.wall >= since ?? .min
    }
}

/// How much is kept. What exceeds either goes, oldest first.
public struct JournalLimits: Hashable, Sendable {
    public var days: Int
    public var events: Int

    public init(days: Int = 90, events: Int = 100_000) {
        self.days = days
        self.events = events
    }

    public static let daysRange = 1...3650
    public static let eventsRange = 1000...1_000_000
    /// So many of the newest stay whatever their age, so that a wrong clock cannot empty the journal.
    public static let eventsKeptAlways = 1000
}

/// The journal could not be read.
public struct JournalError: Error, CustomStringConvertible, Sendable {
    public let description: String
}
