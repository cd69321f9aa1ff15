import Foundation

/// Appends numbered elements to a redis list, remembers which of them were acknowledged, and compares at the end.
public struct RedisClient {
    public struct Options: Sendable {
        public var address = "127.0.0.1"
        public var port: UInt16 = 6379
        public var key = "ledger"
        /// Time between two appends; 0 sends the next as soon as the last is acknowledged.
        public var intervalMs = 5
        public init() {}
    }

    private let options: Options
    private var stream: Stream?
    private var replies = ReplyReader()
    private var report = RedisReport()
    private var silence = SilenceMeter()
    private var latencies = LatencyHistogram()

    public init(_ options: Options) throws(BedError) {
        self.options = options
        stream = try Stream(to: options.address, port: options.port)
        guard case .integer = ask(["DEL", options.key]) else {
            throw BedError("redis at \(options.address):\(options.port) does not answer DEL \(options.key).")
        }
    }

    /// Element n of the list: the number, and a checksum so that a changed element is no other element.
    public static func element(_ number: Int) -> String { "\(number):\(CRC32C.of("\(number)".utf8))" }

    public mutating func run(
        until isOver: () -> Bool, progress: (RedisReport, _ isFirst: Bool) -> Void
    ) -> RedisReport {
        var due = monotonicNanoseconds()
        var nextProgress = due + 1_000_000_000
        var isFirst = true
        while !isOver(), stream != nil {
            append(until: isOver)
            if isFirst, report.acknowledged > 0 {
                isFirst = false
                progress(current(), true)
            }
            let now = monotonicNanoseconds()
            if now >= nextProgress {
                nextProgress = now + 1_000_000_000
                progress(current(), false)
            }
            due = max(due + UInt64(options.intervalMs) * 1_000_000, now)
            if due > now { usleep(useconds_t((due - now) / 1000)) }
        }
        verify()
        return current()
    }

    private func current() -> RedisReport {
        var report = report
        var silence = silence
        silence.look(at: monotonicNanoseconds())
        report.longestSilenceMs = Double(silence.longest) / 1e6
        report.latencyP50Ms = latencies.percentile(0.5)
        report.latencyP99Ms = latencies.percentile(0.99)
        return report
    }

    private mutating func append(until isOver: () -> Bool) {
        report.sent += 1
        let began = monotonicNanoseconds()
        silence.expect(at: began)
        let answer = ask(["RPUSH", options.key, Self.element(report.sent)], until: isOver)
        let now = monotonicNanoseconds()
        silence.hear(at: now, isMoreAwaited: false)
        switch answer {
        case .integer(let length):
            report.acknowledged += 1
            latencies.add(nanoseconds: now - began)
            if length != report.sent { report.unexpected += 1 }
        case nil:
            stream = nil
            report.connectionsLost += 1
        default: report.unexpected += 1
        }
    }

    /// The list is read on a new connection when the old one is gone: what is lost is told apart from who hung up.
    private mutating func verify() {
        do throws(BedError) {
            if stream == nil {
                stream = try Stream(to: options.address, port: options.port)
                replies = ReplyReader()
            }
            var list: [String] = []
            while true {
                let answer = ask(["LRANGE", options.key, "\(list.count)", "\(list.count + 999)"])
                guard case .array(let part) = answer else { throw BedError("redis does not answer LRANGE.") }
                if part.isEmpty { break }
                list += part
            }
            report.judge(list)
        } catch {
            report.failure = error.description
            report.missing = report.acknowledged
        }
    }

    /// Sends a command and waits for its answer: without end, or for 3 s once `isOver`; nil when the connection is over.
    private mutating func ask(_ words: [String], until isOver: () -> Bool = { true }) -> Reply? {
        guard let stream else { return nil }
        let text = "*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        guard stream.sendAll(Array(text.utf8)) else { return nil }
        var overSince: UInt64?
        while true {
            if let reply = replies.next() { return reply }
            guard stream.receive(into: &replies.bytes, within: .milliseconds(50)) else { return nil }
            if isOver() {
                let now = monotonicNanoseconds()
                if now - (overSince ?? now) > 3_000_000_000 { return nil }
                overSince = overSince ?? now
            }
        }
    }

    enum Reply: Equatable {
        case integer(Int)
        case array([String])
        case other
    }

    /// Takes replies off a stream of bytes: of RESP, only what the commands above are answered with.
    struct ReplyReader {
        var bytes: [UInt8] = []

        mutating func next() -> Reply? {
            var at = 0
            guard let head = line(&at), let kind = head.first else { return nil }
            var reply = Reply.other
            let number = Int(head.dropFirst())
            if kind == ":", let number { reply = .integer(number) }
            if kind == "*", let number {
                var elements: [String] = []
                while elements.count < number {
                    guard let size = line(&at).flatMap({ Int($0.dropFirst()) }), size >= 0 else { return nil }
                    guard at + size + 2 <= bytes.count else { return nil }
                    elements.append(String(decoding: bytes[at..<at + size], as: UTF8.self))
                    at += size + 2
                }
                reply = .array(elements)
            }
            bytes.removeFirst(at)
            return reply
        }

        private func line(_ at: inout Int) -> String? {
            guard let end = bytes[at...].firstIndex(of: 13), end + 1 < bytes.count else { return nil }
            defer { at = end + 2 }
            return String(decoding: bytes[at..<end], as: UTF8.self)
        }
    }
}

extension RedisReport {
    /// Compares the list with what was sent and acknowledged, and notes what is wrong. An element that was sent and never acknowledged may be
    /// there or not; where it is, it keeps its place.
    public mutating func judge(_ list: [String]) {
        isVerified = true
        var seen = Set<Int>()
        var highest = 0
        for element in list {
            guard let number = Int(element.prefix { $0 != ":" }), element == RedisClient.element(number),
                number >= 1, number <= sent
            else {
                unexpected += 1
                continue
            }
            if !seen.insert(number).inserted {
                duplicated += 1
            } else if number < highest {
                outOfOrder += 1
            }
            highest = max(highest, number)
        }
        // One append is unanswered at a time, so the acknowledged ones are the first.
        if acknowledged > 0 { missing = (1...acknowledged).filter { !seen.contains($0) }.count }
    }
}
