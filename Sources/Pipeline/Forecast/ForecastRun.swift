import Codec
import GuestNetwork
import LinuxSystem
import Logging
import Model
import Protocol
import QEMU
import Wire

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
    /// How long it was watched, in seconds.
    public var seconds = 0.0

    /// All of them, oldest first within a length.
    public var epochs: [EpochTimings] { byLength.keys.sorted().flatMap { byLength[$0]?.map(\.timings) ?? [] } }
}

/// Watches a guest that nobody protects, epoch by epoch, with the tracker, the checkpoint commands and the encoder of
/// protection, and sends nothing. Lives on one thread; when it is gone, QEMU is as it was.
public final class ForecastRun {
    private let options: ForecastOptions
    private let guest: GuestHandle
    private var tracker: MemoryTracker
    private let references: PageReferences
    private var encoder: EpochEncoder
    private let counter = FrameCounter()
    private var slabs: [Slab] = []
    private var priority: EpochPriority?
    private var epoch = Epoch.firstCopy
    private var resumedAt: UInt64 = 0

    /// Of the time, what is spent on pages that were not seen yet: protection sends those once and differences afterwards.
    private static let warmUpShare = 0.15
    private static let warmUpMilliseconds: UInt64 = 20
    /// Each length has so many turns, so that a load that changes meets all of them.
    private static let rounds = 2
    private static let epochsPerTurnMin = 3
    private static let checkpointsPerTurn = 10
    /// What the device state of an epoch takes on the link where none was saved, in bytes.
    private static let typicalStateBytes: UInt64 = 350

    /// Blocks for `options.seconds` and a little more. Throws `refused` when the guest cannot be watched.
    public static func watch(_ options: ForecastOptions, log: Logger) throws(SessionError) -> ForecastSamples {
        let guest = try GuestHandle(vm: options.vm, qmpPath: options.qmpPath, log: log)
        defer { guest.close() }
        return try ForecastRun(options, guest).run()
    }

    private init(_ options: ForecastOptions, _ guest: GuestHandle) throws(SessionError) {
        self.options = options
        self.guest = guest
        do throws(AttachError) {
            tracker = try MemoryTracker(attachingTo: guest.pid)
        } catch {
            throw SessionError(.refused, "\(options.vm) cannot be watched: \(error)")
        }
        do throws(SystemError) {
            for block in guest.trackedBlocks { try tracker.track(block) }
            references = try PageReferences(guest.blocks)
        } catch {
            throw SessionError(.refused, "\(options.vm) cannot be watched: \(error)")
        }
        encoder = EpochEncoder(blocks: guest.blocks, references: references.blocks)
    }

    private func run() throws(SessionError) -> ForecastSamples {
        guard try guest.isRunning() else {
            throw SessionError(.refused, "\(options.vm) is paused: what it costs is told of a guest that runs")
        }
        if options.pauses { try guest.prepare() }
        // After a failure between a checkpoint's commands the guest must not stay as it stands.
        defer { guest.letRunOn() }
        if options.isRealTime { priority = guest.raisePriority(and: nil, encoder: nil) }
        defer { priority = nil }
        try protectMemory()

        let began = MonotonicClock.now()
        resumedAt = began
        let all = UInt64(options.seconds * 1e9)
        let warmUpEnd = began + UInt64(Double(all) * Self.warmUpShare)
        while MonotonicClock.now() < warmUpEnd {
            _ = try sample(after: Self.warmUpMilliseconds, stopping: options.pauses && epoch.number % 10 == 0)
        }

        var samples = ForecastSamples()
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
        samples.writtenBytes = UInt64(encoder.knownPages * pageSize)
        completeStates(of: &samples)
        return samples
    }

    /// Epochs of one length for so long, however slow they are.
    private func take(_ length: Int, for nanoseconds: UInt64) throws(SessionError) -> [ForecastSamples.Sample] {
        let end = MonotonicClock.now() + nanoseconds
        let every = max(1, Int(nanoseconds / 1_000_000) / length / Self.checkpointsPerTurn)
        var samples: [ForecastSamples.Sample] = []
        while samples.count < Self.epochsPerTurnMin || MonotonicClock.now() < end {
            let isCheckpoint = options.pauses && samples.count % every == 0
            samples.append(try sample(after: UInt64(length), stopping: isCheckpoint))
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
        let began = MonotonicClock.now()
        timings.run = began - resumedAt
        var slabsUsed = 0
        var state: [UInt8] = []
        if stopping {
            slabsUsed = try standStill(&timings)
            let savedAt = MonotonicClock.now()
            try guest.release()
            try guest.resume()
            let runsSince = MonotonicClock.now()
            timings.resume = runsSince - savedAt
            timings.pause = runsSince - began
            state = try guest.takeDeviceState()
            try guest.confirmCheckpoint()
            timings.deviceStateBytes = UInt64(state.count)
        } else {
            slabsUsed = try copyWritten(after: 0, &timings)
        }
        resumedAt = MonotonicClock.now()
        try encode(slabsUsed, state, &timings)
        if let ended = guest.takeEvents().first(where: { $0.name == "SHUTDOWN" || $0.name == "STOP" }) {
            throw SessionError(
                .refused,
                "\(options.vm) " + (ended.name == "STOP" ? "was paused by somebody else" : "was shut down")
                    + " while it was watched")
        }
        return ForecastSamples.Sample(
            timings: timings, processorTime: NamedThread.processorTime - processorBefore)
    }

    /// Stops the guest and copies what it wrote, by one command or by several, as a checkpoint does; it stands still until
    /// it is resumed. Returns how many slabs were filled.
    private func standStill(_ timings: inout EpochTimings) throws(SessionError) -> Int {
        var used = 0
        let began = MonotonicClock.now()
        if try guest.canSaveInOne() {
            try guest.stopAndSaveInOne()
            timings.stop = MonotonicClock.now() - began
            used = try copyWritten(after: used, &timings)
            let copiedAt = MonotonicClock.now()
            let isSaved = try guest.awaitSaved()
            timings.deviceState = MonotonicClock.now() - copiedAt
            used = try copyWritten(after: used, &timings)
            if isSaved { return used }
        }
        let sentAt = MonotonicClock.now()
        try guest.stopAndSave()
        timings.stop += MonotonicClock.now() - sentAt
        used = try copyWritten(after: used, &timings)
        let copiedAt = MonotonicClock.now()
        try guest.finishSave()
        timings.deviceState += MonotonicClock.now() - copiedAt
        return used
    }

    /// As a checkpoint does it, behind `filled` slabs. Returns how many slabs are filled then.
    private func copyWritten(after filled: Int, _ timings: inout EpochTimings) throws(SessionError) -> Int {
        var position = ScanPosition()
        var used = filled
        do throws(SystemError) {
            var atEnd = false
            while !atEnd {
                if used == slabs.count { slabs.append(try Slab()) }
                let slab = slabs[used]
                slab.reset()
                let began = MonotonicClock.now()
                atEnd = try tracker.scanWritten(
                    from: &position, protecting: true, pagesMax: Slab.pagesMax, into: &slab.runs)
                let scanned = MonotonicClock.now()
                _ = try tracker.copy(slab.runs, into: slab.pages)
                timings.scan += scanned - began
                timings.copy += MonotonicClock.now() - scanned
                timings.dirtyPages += UInt64(slab.runs.pages)
                used += 1
            }
        } catch {
            throw failed(error)
        }
        return used
    }

    private func encode(_ slabsUsed: Int, _ state: [UInt8], _ timings: inout EpochTimings) throws(SessionError) {
        do {
            for slab in slabs[..<slabsUsed] { try encoder.ship(slab, of: epoch, through: counter) }
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

    /// As at the beginning of a first copy, without the copying.
    private func protectMemory() throws(SessionError) {
        do throws(SystemError) {
            var buffer = RunBuffer(capacity: 16_384)
            var position = ScanPosition()
            var atEnd = false
            while !atEnd {
                buffer.removeAll()
                atEnd = try tracker.scanPopulated(from: &position, protecting: true, into: &buffer)
            }
            try tracker.protectRest()
        } catch {
            throw failed(error)
        }
    }

    private func failed(_ error: SystemError) -> SessionError {
        guest.isAlive
            ? SessionError(.system, "\(options.vm) cannot be watched: \(error)")
            : SessionError(.guestLost, "the guest's QEMU (pid \(guest.pid)) is gone")
    }
}
