import Foundation

/// Keeps connections to an echo server busy and checks every byte that comes back. One thread, `poll`.
public struct EchoClient {
    public struct Options: Sendable {
        public var address = "127.0.0.1"
        public var port: UInt16 = 7
        public var connections = 16
        /// Bytes of a record, at least 32.
        public var recordBytes = 256
        /// Time between two records of one connection; 0 sends the next as soon as the last is answered.
        public var intervalMs = 10
        /// Records of a connection that may be unanswered at once.
        public var window = 64
        /// How long the end waits for answers that are due. A kernel that had no answer for seconds may wait half a minute before it
        /// repeats a frame that was lost since.
        public var drainMs = 60_000
        public init() {}
    }

    /// A record: connection u32, length u32, number u64, filler, and CRC-32C of all before it in the last 4 bytes.
    static func record(connection: Int, number: UInt64, bytes: Int) -> [UInt8] {
        var record = [UInt8]()
        record.reserveCapacity(bytes)
        func append(_ value: UInt64, _ count: Int) {
            for index in 0..<count { record.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
        }
        append(UInt64(connection), 4)
        append(UInt64(bytes), 4)
        append(number, 8)
        var word: UInt64 = 0
        while record.count < bytes - 4 {
            append(mix(mix(number) ^ UInt64(connection) << 32 ^ word), min(8, bytes - 4 - record.count))
            word += 1
        }
        append(UInt64(CRC32C.of(record)), 4)
        return record
    }

    /// One connection: what was sent and is still due, and what is to be sent.
    private struct Lane {
        let number: Int
        var stream: Stream?
        var isMismatched = false
        var nextRecord: UInt64 = 1
        var nextDue: UInt64 = 0
        /// Records in flight, oldest first: the bytes, and when the record was given to the socket.
        var inFlight: [(bytes: [UInt8], at: UInt64)] = []
        var sentOfLast = 0
        var heardOfFirst = 0
        var sent = 0
        var received = 0
        var silence = SilenceMeter()

        var isUsable: Bool { stream != nil && !isMismatched }
        var isSendPending: Bool { inFlight.last.map { sentOfLast < $0.bytes.count } ?? false }
        var due: Int { sent - received }
    }

    private let options: Options
    private var lanes: [Lane] = []
    private var report = EchoReport()
    private var latencies = LatencyHistogram()
    private var silence = SilenceMeter()
    private var buffer = [UInt8](repeating: 0, count: 65536)

    /// Connects all lanes.
    public init(_ options: Options) throws(BedError) {
        guard options.recordBytes >= 32, options.connections > 0, options.window > 0 else {
            throw BedError("an echo client needs connections, a window, and records of 32 bytes or more.")
        }
        self.options = options
        for number in 0..<options.connections {
            var lane = Lane(number: number, stream: try Stream(to: options.address, port: options.port))
            // Spread over the interval, so that the lanes do not all speak at once.
            lane.nextDue =
                monotonicNanoseconds() + UInt64(options.intervalMs * 1_000_000 / options.connections * number)
            lanes.append(lane)
        }
        report.connections = options.connections
    }

    /// Works until `isOver`, then waits for what is due.
    /// - Parameter progress: called about once a second, and once as soon as every connection has had an answer.
    public mutating func run(
        until isOver: () -> Bool, progress: (EchoReport, _ isFirst: Bool) -> Void
    ) -> EchoReport {
        var nextProgress = monotonicNanoseconds() + 1_000_000_000
        var isAnswered = false
        while !isOver(), lanes.contains(where: \.isUsable) {
            turn(mayStart: true)
            let now = monotonicNanoseconds()
            if !isAnswered, lanes.allSatisfy({ $0.received >= options.recordBytes }) {
                isAnswered = true
                progress(current(at: now), true)
            }
            if now >= nextProgress {
                nextProgress = now + 1_000_000_000
                progress(current(at: now), false)
            }
        }
        let end = monotonicNanoseconds() + UInt64(options.drainMs) * 1_000_000
        while monotonicNanoseconds() < end, lanes.contains(where: { $0.isUsable && ($0.due > 0 || $0.isSendPending) }) {
            turn(mayStart: false)
        }
        lookForMore()
        return current(at: monotonicNanoseconds())
    }

    /// An answer given twice may come after all that was due.
    private mutating func lookForMore() {
        usleep(20_000)
        for index in lanes.indices where lanes[index].isUsable { receive(index) }
    }

    private func current(at now: UInt64) -> EchoReport {
        var report = report
        var silence = silence
        silence.look(at: now)
        report.longestSilenceMs = Double(silence.longest) / 1e6
        report.longestSilenceBeganNs = silence.longestBegan
        for var lane in lanes {
            lane.silence.look(at: now)
            report.sent += lane.sent
            report.received += lane.received
            report.lost += lane.due
            report.longestConnectionSilenceMs = max(
                report.longestConnectionSilenceMs, Double(lane.silence.longest) / 1e6)
        }
        report.latencyP50Ms = latencies.percentile(0.5)
        report.latencyP95Ms = latencies.percentile(0.95)
        report.latencyP99Ms = latencies.percentile(0.99)
        return report
    }

    private mutating func turn(mayStart: Bool) {
        var now = monotonicNanoseconds()
        var wake = now + 100_000_000
        for index in lanes.indices where lanes[index].isUsable {
            if mayStart { start(index, now, &wake) }
            if lanes[index].isSendPending { send(index) }
        }
        var entries = lanes.map { lane in
            pollfd(
                fd: lane.isUsable ? lane.stream?.descriptor ?? -1 : -1,
                events: Int16(POLLIN) | (lane.isSendPending ? Int16(POLLOUT) : 0), revents: 0)
        }
        now = monotonicNanoseconds()
        let wait = wake > now ? Int32((wake - now + 999_999) / 1_000_000) : 0
        guard poll(&entries, nfds_t(entries.count), wait) > 0 else { return }
        for (index, entry) in entries.enumerated() where entry.revents != 0 {
            if entry.revents & Int16(POLLOUT) != 0 { send(index) }
            if entry.revents & ~Int16(POLLOUT) != 0 { receive(index) }
        }
    }

    /// Begins the next record of a lane when its time has come.
    private mutating func start(_ index: Int, _ now: UInt64, _ wake: inout UInt64) {
        let limit = options.intervalMs == 0 ? 1 : options.window
        guard !lanes[index].isSendPending, lanes[index].inFlight.count < limit else { return }
        guard options.intervalMs == 0 || lanes[index].nextDue <= now else {
            wake = min(wake, lanes[index].nextDue)
            return
        }
        let record = Self.record(connection: index, number: lanes[index].nextRecord, bytes: options.recordBytes)
        lanes[index].nextRecord += 1
        lanes[index].nextDue = max(lanes[index].nextDue + UInt64(options.intervalMs) * 1_000_000, now)
        lanes[index].inFlight.append((record, now))
        lanes[index].sentOfLast = 0
        report.records += 1
    }

    private mutating func send(_ index: Int) {
        guard let stream = lanes[index].stream, lanes[index].isUsable, let record = lanes[index].inFlight.last else {
            return
        }
        let from = lanes[index].sentOfLast
        switch record.bytes.withUnsafeBytes({ stream.send(UnsafeRawBufferPointer(rebasing: $0[from...])) }) {
        case .moved(let count):
            lanes[index].sentOfLast += count
            lanes[index].sent += count
            let now = monotonicNanoseconds()
            lanes[index].silence.expect(at: now)
            silence.expect(at: now)
        case .wouldBlock: break
        case .over: lose(index)
        }
    }

    private mutating func receive(_ index: Int) {
        guard let stream = lanes[index].stream, lanes[index].isUsable else { return }
        switch buffer.withUnsafeMutableBytes({ stream.receive(into: $0) }) {
        case .moved(let count): compare(index, count)
        case .wouldBlock: break
        case .over: lose(index)
        }
    }

    private mutating func lose(_ index: Int) {
        lanes[index].stream = nil
        report.connectionsLost += 1
    }

    private mutating func compare(_ index: Int, _ count: Int) {
        let now = monotonicNanoseconds()
        var at = 0
        while at < count {
            guard lanes[index].due > 0, let record = lanes[index].inFlight.first else {
                mismatch(index, "\(count - at) bytes came that were not due", unexpected: count - at)
                return
            }
            let from = lanes[index].heardOfFirst
            let length = min(count - at, record.bytes.count - from)
            guard record.bytes[from..<from + length].elementsEqual(buffer[at..<at + length]) else {
                let wrong = (0..<length).first { record.bytes[from + $0] != buffer[at + $0] } ?? 0
                lanes[index].received += wrong
                mismatch(
                    index,
                    "byte \(lanes[index].received) came back as \(buffer[at + wrong]), it was \(record.bytes[from + wrong])",
                    unexpected: 0)
                return
            }
            at += length
            lanes[index].received += length
            lanes[index].heardOfFirst += length
            if lanes[index].heardOfFirst == record.bytes.count {
                lanes[index].inFlight.removeFirst()
                lanes[index].heardOfFirst = 0
                latencies.add(nanoseconds: now - record.at)
            }
        }
        lanes[index].silence.hear(at: now, isMoreAwaited: lanes[index].due > 0)
        silence.hear(at: now, isMoreAwaited: lanes.contains { $0.isUsable && $0.due > 0 })
    }

    /// After a wrong byte nothing on this connection can be told apart any more: the rest of it counts as lost.
    private mutating func mismatch(_ index: Int, _ what: String, unexpected: Int) {
        lanes[index].isMismatched = true
        report.unexpected += unexpected
        if report.mismatches.count < 8 { report.mismatches.append("connection \(index): \(what)") }
    }
}
