import Model

/// Watch a guest that nobody protects and tell what protecting it would cost.
public struct ForecastRequest: Codable, Hashable, Sendable {
    public var vm: VMName
    /// The monitor socket of its QEMU; nil takes the one that the configuration names for the VM.
    public var qmp: String?
    /// The configured name of the host that would take over; nil takes the configured one, or the only peer.
    public var standby: NodeName?
    /// How long to watch, 2 to 300; nil is 10.
    public var seconds: Double?
    /// Whether the guest is stopped now and then for as long as a checkpoint takes; nil is true.
    public var pause: Bool?
    /// What the link carries, in Mbit/s; nil when nobody knows.
    public var linkMegabits: Double?
    /// How many ask the guest at the same time, each one waiting for its answers; nil is 1.
    public var clients: Int?
    /// Requests of one transaction, one after the other; nil is 1.
    public var roundTrips: Int?

    public init(
        vm: VMName, qmp: String? = nil, standby: NodeName? = nil, seconds: Double? = nil, pause: Bool? = nil,
        linkMegabits: Double? = nil, clients: Int? = nil, roundTrips: Int? = nil
    ) {
        self.vm = vm
        self.qmp = qmp
        self.standby = standby
        self.seconds = seconds
        self.pause = pause
        self.linkMegabits = linkMegabits
        self.clients = clients
        self.roundTrips = roundTrips
    }

    public static let secondsRange = 2.0...300.0
    /// Of `clients` and of `roundTrips`.
    public static let countRange = 1...100_000
    public static let usualSeconds = 10.0

    enum CodingKeys: String, CodingKey {
        case vm, qmp, standby, seconds, pause, clients
        case linkMegabits = "link_mbit"
        case roundTrips = "round_trips"
    }
}

/// Least and most of something that depends on how busy the guest is.
public struct ForecastSpan: Codable, Hashable, Sendable {
    public var least: Double
    public var most: Double

    public init(least: Double, most: Double) {
        self.least = least
        self.most = most
    }
}

/// What protection would cost work that waits for answers, a database's clients for example.
public struct ForecastRequests: Codable, Hashable, Sendable {
    /// What the host counted at the guest's taps before anything slowed it down; nil where nothing could be counted.
    public var framesOutPerSecond: Double?
    public var framesInPerSecond: Double?
    /// Why not.
    public var uncounted: String?
    /// There were no more of them than this.
    public var roundTripsPerSecondMax: Double?
    /// As they were told, or 1.
    public var clients: Int
    public var roundTrips: Int
    /// How much later an answer comes, and how much longer a transaction takes, in milliseconds.
    public var answer: ForecastSpan
    public var transaction: ForecastSpan
    /// The share of their requests that the clients can no longer make, 0 to 1; nil where hardly any was seen.
    public var lost: ForecastSpan?

    public init(
        framesOutPerSecond: Double?, framesInPerSecond: Double?, uncounted: String?, roundTripsPerSecondMax: Double?,
        clients: Int, roundTrips: Int, answer: ForecastSpan, transaction: ForecastSpan, lost: ForecastSpan?
    ) {
        self.framesOutPerSecond = framesOutPerSecond
        self.framesInPerSecond = framesInPerSecond
        self.uncounted = uncounted
        self.roundTripsPerSecondMax = roundTripsPerSecondMax
        self.clients = clients
        self.roundTrips = roundTrips
        self.answer = answer
        self.transaction = transaction
        self.lost = lost
    }

    enum CodingKeys: String, CodingKey {
        case uncounted, clients, lost
        case framesOutPerSecond = "frames_out_per_second"
        case framesInPerSecond = "frames_in_per_second"
        case roundTripsPerSecondMax = "round_trips_per_second_max"
        case roundTrips = "round_trips"
        case answer = "answer_ms"
        case transaction = "transaction_ms"
    }
}

/// What protection at one epoch length would cost.
public struct ForecastEpoch: Codable, Hashable, Sendable {
    public var epochMilliseconds: Int
    /// Epochs of that length that were watched.
    public var watched: Int
    /// By epoch.
    public var dirtyPages: Percentiles
    /// In milliseconds, as are all times here.
    public var pause: Percentiles
    public var bound: EpochPrediction.Bound
    /// From output to its release, where output ends epochs: of a guest that was quiet, and for a client that asks again as
    /// soon as it was answered.
    public var answer: Double
    public var busyAnswer: Double
    /// The same where epochs are fixed.
    public var fixedAnswer: Double
    public var fixedAnswerMax: Double
    /// The share of its time that the guest loses, 0 to 1.
    public var slowdown: Double
    public var linkBytesPerEpoch: Double
    /// With what the guest writes to its disks, without its output.
    public var linkBytesPerSecond: Double
    /// Of one core, 0 to 1, at this host; without the link's encryption.
    public var agentShare: Double

    public init(
        epochMilliseconds: Int, watched: Int, dirtyPages: Percentiles, pause: Percentiles, bound: EpochPrediction.Bound,
        answer: Double, busyAnswer: Double, fixedAnswer: Double, fixedAnswerMax: Double, slowdown: Double,
        linkBytesPerEpoch: Double, linkBytesPerSecond: Double, agentShare: Double
    ) {
        self.epochMilliseconds = epochMilliseconds
        self.watched = watched
        self.dirtyPages = dirtyPages
        self.pause = pause
        self.bound = bound
        self.answer = answer
        self.busyAnswer = busyAnswer
        self.fixedAnswer = fixedAnswer
        self.fixedAnswerMax = fixedAnswerMax
        self.slowdown = slowdown
        self.linkBytesPerEpoch = linkBytesPerEpoch
        self.linkBytesPerSecond = linkBytesPerSecond
        self.agentShare = agentShare
    }

    enum CodingKeys: String, CodingKey {
        case watched, bound, slowdown
        case epochMilliseconds = "epoch_ms"
        case dirtyPages = "dirty_pages"
        case pause = "pause_ms"
        case answer = "answer_ms"
        case busyAnswer = "busy_answer_ms"
        case fixedAnswer = "fixed_answer_ms"
        case fixedAnswerMax = "fixed_answer_max_ms"
        case linkBytesPerEpoch = "link_bytes_per_epoch"
        case linkBytesPerSecond = "link_bytes_per_second"
        case agentShare = "agent_cpu_ratio"
    }
}

/// The way to the host that would take over.
public struct ForecastLink: Codable, Hashable, Sendable {
    public var peer: NodeName
    /// In milliseconds; nil when it could not be reached.
    public var roundTrip: Double?
    /// Why not.
    public var error: String?

    public init(peer: NodeName, roundTrip: Double? = nil, error: String? = nil) {
        self.peer = peer
        self.roundTrip = roundTrip
        self.error = error
    }

    enum CodingKeys: String, CodingKey {
        case peer, error
        case roundTrip = "round_trip_ms"
    }
}

/// What protecting a VM would cost, from watching it.
public struct Forecast: Codable, Hashable, Sendable {
    public var vm: VMName
    /// The level that the figures are for.
    public var level: Level
    /// How long it was watched.
    public var seconds: Double
    /// Whether pauses were measured; else they are typical ones.
    public var hasPauses: Bool
    /// Nil when no host is there to be the standby.
    public var link: ForecastLink?
    /// By rising length.
    public var epochs: [ForecastEpoch]
    public var deviceStateBytes: UInt64
    public var diskBytesPerSecond: Double
    /// Memory of the agent at this host: after the time that was watched, and at most.
    public var agentMemoryBytes: UInt64
    public var agentMemoryBytesMax: UInt64
    /// Memory of the replica at the standby.
    public var standbyMemoryBytes: UInt64
    public var model: ModelReport
    /// What becomes of work that waits for answers; nil from an older agent.
    public var requests: ForecastRequests?
    /// Some sentences.
    public var advice: String
    /// Nil when no length suits.
    public var advisedEpochMilliseconds: Int?

    public init(
        vm: VMName, level: Level, seconds: Double, hasPauses: Bool, link: ForecastLink?, epochs: [ForecastEpoch],
        deviceStateBytes: UInt64, diskBytesPerSecond: Double, agentMemoryBytes: UInt64, agentMemoryBytesMax: UInt64,
        standbyMemoryBytes: UInt64, model: ModelReport, requests: ForecastRequests?, advice: String,
        advisedEpochMilliseconds: Int?
    ) {
        self.vm = vm
        self.level = level
        self.seconds = seconds
        self.hasPauses = hasPauses
        self.link = link
        self.epochs = epochs
        self.deviceStateBytes = deviceStateBytes
        self.diskBytesPerSecond = diskBytesPerSecond
        self.agentMemoryBytes = agentMemoryBytes
        self.agentMemoryBytesMax = agentMemoryBytesMax
        self.standbyMemoryBytes = standbyMemoryBytes
        self.model = model
        self.requests = requests
        self.advice = advice
        self.advisedEpochMilliseconds = advisedEpochMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case vm, level, seconds, link, epochs, model, requests, advice
        case hasPauses = "pauses_measured"
        case deviceStateBytes = "device_state_bytes"
        case diskBytesPerSecond = "disk_bytes_per_second"
        case agentMemoryBytes = "agent_memory_bytes"
        case agentMemoryBytesMax = "agent_memory_bytes_max"
        case standbyMemoryBytes = "standby_memory_bytes"
        case advisedEpochMilliseconds = "advised_epoch_ms"
    }
}
