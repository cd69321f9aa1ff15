import Foundation

/// Runs the guest's `disk-writer`, remembers which records were reported as durable, and reads the disk at the end.
public struct LedgerClient {
    public struct Options: Sendable {
        public var address = "127.0.0.1"
        public var port: UInt16 = 9
        public var disk = "/dev/vda"
        /// The region, in slots of 4096 bytes.
        public var firstSlot = 0
        public var slots = 1024
        public var isRandom = true
        public var intervalMs = 5
        /// Tells the records of this run from what was there before.
        public var run = UInt64.random(in: 1...0xffff_ffff)
        public init() {}

        var region: String { "disk=\(disk) first=\(firstSlot) slots=\(slots) run=\(run)" }
    }

    private let options: Options
    private var stream: Stream?
    private var bytes: [UInt8] = []
    private var ledger = Ledger()
    private var report = LedgerReport()
    private var silence = SilenceMeter()

    public init(_ options: Options) throws(BedError) {
        self.options = options
        stream = try Stream(to: options.address, port: options.port)
        let pattern = options.isRandom ? "random" : "sequential"
        let order = "write \(options.region) pattern=\(pattern) interval_us=\(options.intervalMs * 1000)\n"
        guard stream?.sendAll(Array(order.utf8)) == true else { throw BedError("disk-writer took no order.") }
    }

    public mutating func run(
        until isOver: () -> Bool, progress: (LedgerReport, _ isFirst: Bool) -> Void
    ) -> LedgerReport {
        var nextProgress = monotonicNanoseconds() + 1_000_000_000
        var isFirst = true
        silence.expect(at: monotonicNanoseconds())
        while !isOver(), let stream, report.failure == nil {
            take(stream, within: .milliseconds(50))
            if isFirst, ledger.count > 0 {
                isFirst = false
                progress(current(), true)
            }
            let now = monotonicNanoseconds()
            if now >= nextProgress {
                nextProgress = now + 1_000_000_000
                progress(current(), false)
            }
        }
        // The time to read the disk is no silence of the writer.
        silence.look(at: monotonicNanoseconds())
        let measured = silence
        finishWriting()
        verify()
        silence = measured
        return current(isOver: true)
    }

    private func current(isOver: Bool = false) -> LedgerReport {
        var report = report
        var silence = silence
        if !isOver { silence.look(at: monotonicNanoseconds()) }
        report.longestSilenceMs = Double(silence.longest) / 1e6
        report.acknowledged = ledger.count
        return report
    }

    private mutating func take(_ stream: Stream, within limit: Duration) {
        guard stream.receive(into: &bytes, within: limit) else {
            self.stream = nil
            if ledger.lastWritten == nil { report.connectionsLost += 1 }
            return
        }
        if bytes.starts(with: "error:".utf8) {
            report.failure = String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)
            return
        }
        for entry in SlotReport.taken(from: &bytes) {
            ledger.note(entry)
            silence.hear(at: monotonicNanoseconds(), isMoreAwaited: true)
        }
    }

    /// Lets the writer end and say which number was its last.
    private mutating func finishWriting() {
        stream?.finishSending()
        let end = ContinuousClock.now + .seconds(15)
        while let stream, ledger.lastWritten == nil, report.failure == nil {
            if ContinuousClock.now > end {
                report.failure = "disk-writer did not end within 15 s"
                return
            }
            take(stream, within: .milliseconds(50))
        }
    }

    private mutating func verify() {
        do throws(BedError) {
            let stream = try Stream(to: options.address, port: options.port)
            guard stream.sendAll(Array("read \(options.region)\n".utf8)) else {
                throw BedError("disk-writer took no order to read.")
            }
            var bytes: [UInt8] = []
            let end = ContinuousClock.now + .seconds(60)
            while bytes.count < options.slots * SlotReport.size, stream.receive(into: &bytes, within: .milliseconds(50))
            {
                guard ContinuousClock.now < end else { throw BedError("the guest did not read its disk within 60 s.") }
            }
            let slots = SlotReport.taken(from: &bytes)
            guard slots.count == options.slots else {
                throw BedError(
                    "the guest read \(slots.count) of \(options.slots) slots: \(String(decoding: bytes, as: UTF8.self))"
                )
            }
            ledger.judge(slots, into: &report)
        } catch {
            report.failure = report.failure ?? error.description
            report.lost = ledger.acknowledged.count
        }
    }
}

/// One report of `disk-writer`: 24 bytes, little-endian; see `Guest/disk-writer.c`.
public struct SlotReport: Sendable, Equatable {
    public enum State: UInt32, Sendable {
        case whole = 0
        /// Empty, or of another run.
        case foreign = 1
        case torn = 2
    }

    static let size = 24
    public var number: UInt64
    public var slot: UInt64
    public var checksum: UInt32
    public var state: State

    public init(number: UInt64, slot: UInt64, checksum: UInt32 = 0, state: State = .whole) {
        self.number = number
        self.slot = slot
        self.checksum = checksum
        self.state = state
    }

    /// Takes the whole reports off the front of `bytes`.
    static func taken(from bytes: inout [UInt8]) -> [SlotReport] {
        let whole = bytes.count / size
        let reports = (0..<whole).map { index in
            func number(_ offset: Int, _ count: Int) -> UInt64 {
                (0..<count).reversed().reduce(0) { $0 << 8 | UInt64(bytes[index * size + offset + $1]) }
            }
            return SlotReport(
                number: number(0, 8), slot: number(8, 8), checksum: UInt32(number(16, 4)),
                state: State(rawValue: UInt32(number(20, 4))) ?? .torn)
        }
        bytes.removeFirst(whole * size)
        return reports
    }
}

/// Which record each slot must hold at least: what the writer reported as durable.
public struct Ledger: Sendable {
    public private(set) var acknowledged: [UInt64: UInt64] = [:]
    public private(set) var count = 0
    /// The last number that was written, once the writer ended in order.
    public private(set) var lastWritten: UInt64?

    public init() {}

    public mutating func note(_ report: SlotReport) {
        guard report.number > 0 else {
            lastWritten = report.slot
            return
        }
        count += 1
        acknowledged[report.slot] = max(report.number, acknowledged[report.slot] ?? 0)
    }

    /// Compares what the slots hold with what was acknowledged. A later record in a slot is right as well: it was
    /// written and its report was on its way.
    public func judge(_ slots: [SlotReport], into report: inout LedgerReport) {
        report.isVerified = true
        var seen = Set<UInt64>()
        for slot in slots {
            seen.insert(slot.slot)
            let least = acknowledged[slot.slot]
            switch slot.state {
            case .torn: report.torn += 1
            case .foreign: if least != nil { report.lost += 1 }
            case .whole:
                if let least, slot.number < least { report.lost += 1 }
                if let lastWritten, slot.number > lastWritten { report.unexpected += 1 }
            }
        }
        report.lost += acknowledged.keys.filter { !seen.contains($0) }.count
    }
}
