import Hypervisor
import LinuxSystem
import Logging
import Memory
import Model
import Protocol
import Shipping

/// How a guest is watched for a forecast.
public struct ForecastOptions: Sendable {
    public var vm: VMName
    public var qmpPath: String
    /// How long to watch, in seconds.
    public var seconds = 10.0
    /// The lengths that are tried in turn, in milliseconds.
    public var lengths = ForecastOptions.usualLengths
    /// Whether the guest is stopped now and then, for as long as a checkpoint takes.
    public var pauses = true
    /// As `PrimaryOptions.isRealTime`.
    public var isRealTime = true
    /// As `PrimaryOptions.sleep`.
    public var sleep: ProcessorSleep?
    /// What the link carries, for the choice of the second stage; 0 when nobody knows.
    public var linkBytesPerSecond = 0.0

    public static let usualLengths = [10, 20, 50, 100, 200]

    public init(vm: VMName, qmpPath: String) {
        self.vm = vm
        self.qmpPath = qmpPath
    }
}

/// What was seen of a guest that was watched.
public struct ForecastSamples: Sendable {
    public struct Sample: Sendable {
        public var timings: EpochTimings
        /// What the epoch took of a processor, in nanoseconds.
        public var processorTime: UInt64
    }

    /// The epochs of each length, in milliseconds.
    public var byLength: [Int: [Sample]] = [:]
    /// Bytes of guest memory that would be tracked.
    public var memoryBytes: UInt64 = 0
    /// Bytes of it that were written while it was watched: the primary keeps a copy of each such page.
    public var writtenBytes: UInt64 = 0
    /// The device state as QEMU writes it; 0 when the guest was not stopped.
    public var deviceStateBytes: UInt64 = 0
    public var diskBytesPerSecond = 0.0
    /// What passed through its taps before its memory was followed, so of a guest that nothing slowed down.
    public var traffic: GuestTraffic = .uncounted(reason: "it was not watched")
    /// How long it was watched, in seconds.
    public var seconds = 0.0

    /// All of them, oldest first within a length.
    public var epochs: [EpochTimings] { byLength.keys.sorted().flatMap { byLength[$0]?.map(\.timings) ?? [] } }
}

/// Watches a guest that nobody protects, epoch by epoch, with the tracker, the checkpoint commands and the encoder of
/// protection, and sends nothing. Lives on one thread; when it is gone, QEMU is as it was.
public final class ForecastRun {
    private let options: ForecastOptions
    private let guest: any Guest
    private let capture: EpochCapture
    private let references: PageReferences
    private var encoder: EpochEncoder
    private let counter = CountingTarget()
    /// What the epoch has filled, and what is free.
    private var filled: [Slab] = []
    private var spare: [Slab] = []
    private var priority: EpochPriority?
    private var epoch = Epoch.firstCopy
    private var resumedAt: UInt64 = 0
    /// As protection has it, for each length.
    private var precopying: [UInt64: PrecopyChoice] = [:]

    /// Of the time, what is spent on pages that were not seen yet: protection sends those once and differences afterwards.
    private static let warmUpShare = 0.15
    private static let warmUpMilliseconds: UInt64 = 20
    /// Of the time, what is spent on counting frames before memory is followed, and its bounds, in seconds.
    private static let countingShare = 0.1
    private static let countingSeconds = 0.3...3.0
    /// Each length has so many turns, so that a load that changes meets all of them.
    private static let rounds = 2
    private static let epochsPerTurnMin = 3
    /// More epochs tell hardly more; for the rest of its turn the guest is left alone.
    private static let epochsPerTurnMax = 20
    private static let checkpointsPerTurn = 6
    /// What the device state of an epoch takes on the link where none was saved, in bytes.
    private static let typicalStateBytes: UInt64 = 350

    /// Blocks for `options.seconds` and a little more. Throws `refused` when the guest cannot be watched.
    public static func watch(_ options: ForecastOptions, among guests: any GuestSource, log: Logger)
        throws(SessionError) -> ForecastSamples
    {
        let guest = try guests.open(options.vm, at: options.qmpPath, log: log)
        defer { guest.close() }
        return try ForecastRun(options, guest).run()
    }

    private init(_ options: ForecastOptions, _ guest: any Guest) throws(SessionError) {
        self.options = options
        self.guest = guest
        let memory = try guest.followMemory(purpose: "watched", isHelped: false)
        do throws(SystemError) {
            references = try PageReferences(guest.blocks)
        } catch {
            throw SessionError(.refused, "\(options.vm) cannot be watched: \(error)")
        }
        capture = EpochCapture(of: guest, memory, purpose: "watched", isExact: false)
        encoder = EpochEncoder(references)
    }

    private func run() throws(SessionError) -> ForecastSamples {
        guard try guest.isRunning() else {
            throw SessionError(.refused, "\(options.vm) is paused: what it costs is told of a guest that runs")
        }
        let began = MonotonicClock.now()
        let all = UInt64(options.seconds * 1e9)
        var samples = ForecastSamples()
        samples.traffic = countTraffic()

        if options.pauses { try guest.prepare() }
        // After a failure between a checkpoint's commands the guest must not stay as it stands.
        defer { guest.letRunOn() }
        if options.isRealTime { priority = guest.raisePriority(and: nil, encoder: nil) }
        defer { priority = nil }
        _ = try capture.protectMemory()

        resumedAt = MonotonicClock.now()
        let warmUpEnd = resumedAt + UInt64(Double(all) * Self.warmUpShare)
        while MonotonicClock.now() < warmUpEnd {
            _ = try sample(after: Self.warmUpMilliseconds, stopping: options.pauses && epoch.number % 10 == 0)
        }

        let diskBytesBefore = try guest.writtenDiskBytes()
        let turn = (all - min(all, warmUpEnd - began)) / UInt64(Self.rounds * options.lengths.count)
        for _ in 1...Self.rounds {
            for length in options.lengths {
                samples.byLength[length, default: []] += try take(length, for: turn)
            }
        }
        samples.seconds = Double(MonotonicClock.now() - began) / 1e9
        let counted = Double(MonotonicClock.now() - max(began, warmUpEnd)) / 1e9
        samples.diskBytesPerSecond = Double(try guest.writtenDiskBytes() - diskBytesBefore) / max(counted, 1e-3)
        samples.memoryBytes = guest.trackedBlocks.reduce(0) { $0 + $1.length }
        samples.writtenBytes = UInt64(references.pages * pageSize)
        completeStates(of: &samples)
        return samples
    }

    private func countTraffic() -> GuestTraffic {
        let seconds = min(
            max(options.seconds * Self.countingShare, Self.countingSeconds.lowerBound), Self.countingSeconds.upperBound)
        do throws(UncountedFrames) {
            let (before, began) = (try guest.countFrames(), MonotonicClock.now())
            MonotonicClock.sleep(until: began + UInt64(seconds * 1e9))
            let (after, ended) = (try guest.countFrames(), MonotonicClock.now())
            // A tap that was made anew counts from 0.
            guard after.received >= before.received, after.sent >= before.sent, ended > began else {
                return .uncounted(reason: "its taps were made anew while they were looked at")
            }
            let perSecond = 1e9 / Double(ended - began)
            return .counted(
                framesOut: Double(after.received - before.received) * perSecond,
                framesIn: Double(after.sent - before.sent) * perSecond)
        } catch {
            return .uncounted(reason: error.reason)
        }
    }

    /// Epochs of one length for so long, however slow they are, and no more than tell something: each of them costs the
    /// guest.
    private func take(_ length: Int, for nanoseconds: UInt64) throws(SessionError) -> [ForecastSamples.Sample] {
        let end = MonotonicClock.now() + nanoseconds
        let expected = min(Int(nanoseconds / 1_000_000) / length, Self.epochsPerTurnMax)
        let every = max(1, expected / Self.checkpointsPerTurn)
        var samples: [ForecastSamples.Sample] = []
        while samples.count < Self.epochsPerTurnMin
            || samples.count < Self.epochsPerTurnMax && MonotonicClock.now() < end
        {
            let isCheckpoint = options.pauses && samples.count % every == 0
            samples.append(try sample(after: UInt64(length), stopping: isCheckpoint))
        }
        if MonotonicClock.now() < end {
            // What was written in a rest is no epoch of this length, nor of the next one.
            _ = try sample(after: (end - min(end, resumedAt)) / 1_000_000, stopping: false)
        }
        return samples
    }

    /// An epoch of `milliseconds`: a whole checkpoint with `stopping`, else only its pages, while the guest runs.
    private func sample(
        after milliseconds: UInt64, stopping: Bool
    ) throws(SessionError) -> ForecastSamples.Sample {
        MonotonicClock.sleep(until: resumedAt + milliseconds * 1_000_000)
        let processorBefore = NamedThread.processorTime
        var timings = EpochTimings()
        epoch = epoch.next
        timings.epoch = epoch
        var slab = try takeSlab()
        var state: [UInt8] = []
        if stopping { options.sleep?.hold() }
        defer { if stopping { options.sleep?.release() } }
        if stopping, precopying[milliseconds, default: PrecopyChoice()].isWorthwhile() {
            var early = EpochTimings()
            try capture.copyWritten(while: .work, into: &slab, &early, exchange)
            timings.precopiedPages = early.dirtyPages
            slab = try exchange(slab)
        }
        let began = MonotonicClock.now()
        timings.run = began - resumedAt
        if stopping {
            try capture.standStill(mayRunOn: true, into: &slab, &timings, exchange)
            let savedAt = MonotonicClock.now()
            try guest.release()
            try guest.resume()
            let runsSince = MonotonicClock.now()
            timings.resume = runsSince - savedAt
            timings.pause = runsSince - began
            state = try guest.takeDeviceState()
            try guest.confirmCheckpoint()
            try guest.confirmMemory()
            timings.deviceStateBytes = UInt64(state.count)
            precopying[milliseconds]?.record(precopied: timings.precopiedPages, left: timings.dirtyPages)
            timings.dirtyPages += timings.precopiedPages
        } else {
            try capture.copyWritten(while: .work, into: &slab, &timings, exchange)
        }
        filled.append(slab)
        resumedAt = MonotonicClock.now()
        try encode(state, &timings)
        for news in guest.takeNews() {
            let what: String
            switch news {
            case .paused: what = "was paused by somebody else"
            case .shutdown: what = "was shut down"
            default: continue
            }
            throw SessionError(.refused, "\(options.vm) \(what) while it was watched")
        }
        return ForecastSamples.Sample(
            timings: timings, processorTime: NamedThread.processorTime - processorBefore)
    }

    private func exchange(_ full: Slab) throws(SessionError) -> Slab {
        filled.append(full)
        return try takeSlab()
    }

    private func takeSlab() throws(SessionError) -> Slab {
        if let slab = spare.popLast() { return slab }
        do throws(SystemError) {
            return try Slab()
        } catch {
            throw SessionError(.system, "\(options.vm) cannot be watched: \(error)")
        }
    }

    private func encode(_ state: [UInt8], _ timings: inout EpochTimings) throws(SessionError) {
        do {
            for slab in filled {
                try encoder.ship(slab, of: epoch, through: counter)
                slab.reset()
            }
            spare += filled
            filled.removeAll(keepingCapacity: true)
            let pages = counter.bytes
            if !state.isEmpty { try encoder.ship(deviceState: state, of: epoch, through: counter) }
            timings.deviceStateSentBytes = counter.bytes - pages
        } catch {
            throw SessionError(.system, "what \(options.vm) wrote cannot be encoded: \(error)")
        }
        timings.encode = encoder.takeEncodeTime()
        timings.memoryBytes = encoder.takeMemoryBytes()
        timings.linkBytes = counter.take()
        encoder.begin(after: epoch, linkBytesPerSecond: options.linkBytesPerSecond)
    }

    /// Every epoch carries a device state; where none was saved it gets what the others usually had.
    private func completeStates(of samples: inout ForecastSamples) {
        let saved = samples.epochs.filter { $0.pause > 0 }
        samples.deviceStateBytes = saved.last?.deviceStateBytes ?? 0
        let sizes = saved.map(\.deviceStateSentBytes).sorted()
        let usual = sizes.isEmpty ? Self.typicalStateBytes : sizes[sizes.count / 2]
        for length in options.lengths {
            for index in samples.byLength[length, default: []].indices
            where samples.byLength[length]?[index].timings.pause == 0 {
                samples.byLength[length]?[index].timings.linkBytes += usual
            }
        }
    }
}
