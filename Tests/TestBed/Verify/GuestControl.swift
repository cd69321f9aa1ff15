import Foundation

/// Speaks to the guest's services from the client's host.
public struct GuestControl: Sendable {
    public let client: BedHost
    public let address: String

    public init(client: BedHost, address: String) {
        self.client = client
        self.address = address
    }

    /// Runs a shell command in the guest and returns its output; an exit code other than 0 is an error.
    @discardableResult
    public func shell(_ command: String, limit: Duration = .seconds(60)) throws(BedError) -> String {
        try client.run(
            [try Programs.path("romulus-bed-client"), "exec", "address=\(address)", "--", command], limit: limit)
    }

    /// Which boot of the guest this is: another one after each. Nil when it does not answer within some seconds.
    public func boot() -> String? {
        let text = try? shell("cat /proc/sys/kernel/random/boot_id", limit: .seconds(5))
        let word = text?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        return word.isEmpty ? nil : word
    }

    /// Stops the guest's kernel dead, a moment after this returns. Nothing tells QEMU so, but a watchdog.
    public func hang() throws(BedError) {
        try shell("echo 0 > /proc/sys/kernel/panic; (sleep 0.2; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 &")
    }

    /// How many frames of the guest's first card did not come out of `tap` at its host: 0 when nothing is lost and nothing is
    /// held. Both counts are taken while nobody speaks to the guest; what is under way at that moment is waited for.
    public func framesLost(on host: BedHost, tap: String = "tap0") async throws -> Int {
        var lost = 0
        for _ in 0..<4 {
            try shell("(sleep 1; cat /proc/net/dev > /tmp/sent) > /dev/null 2>&1 &")
            try await Task.sleep(for: .milliseconds(800))
            let came = try host.framesReceived(tap)
            try await Task.sleep(for: .milliseconds(500))
            lost = Int(try LinkCounters("eth0", in: try shell("cat /tmp/sent")).framesSent) - Int(came)
            if lost == 0 { break }
        }
        return lost
    }

    /// How the dirtier writes. All numbers can be changed while it works.
    public struct Dirtying: Sendable {
        public enum Pattern: String, Sendable {
            /// 16 bytes of each page, one page after the other.
            case counter
            /// The whole page, pages in random order.
            case random
        }

        /// Pages written in each period; 0 rests.
        public var pages: Int
        public var periodMs: Int
        /// In pages of 4096 bytes, up to 2^20.
        public var workingSet: Int
        public var pattern: Pattern

        public init(pages: Int, periodMs: Int = 20, workingSet: Int = 4096, pattern: Pattern = .counter) {
            self.pages = pages
            self.periodMs = periodMs
            self.workingSet = workingSet
            self.pattern = pattern
        }
    }

    public func dirty(_ dirtying: Dirtying) throws(BedError) {
        let answer = try ask(
            8,
            "set pages=\(dirtying.pages) period_ms=\(dirtying.periodMs) working_set=\(dirtying.workingSet) "
                + "pattern=\(dirtying.pattern.rawValue)")
        guard answer == "ok" else { throw BedError("the dirtier refuses: \(answer)") }
    }

    /// What the dirtier found when it compared all of its pages with what it wrote.
    public struct MemoryReport: Codable, Sendable, Equatable {
        public var pages: Int
        /// Pages that do not hold what was written last.
        public var bad: Int
        public var firstBad: Int
        public var digest: String
    }

    public func verifyMemory() throws(BedError) -> MemoryReport {
        let values = Self.values(in: try ask(8, "verify"))
        guard let pages = values["pages"].flatMap({ Int($0) }), let bad = values["bad"].flatMap({ Int($0) }),
            let first = values["first_bad"].flatMap({ Int($0) }), let digest = values["digest"]
        else { throw BedError("the dirtier answers something else: \(values)") }
        return MemoryReport(pages: pages, bad: bad, firstBad: first, digest: digest)
    }

    /// What the dirtier did so far, and where its memory begins in its own address space.
    public struct Dirtied: Sendable {
        public var pages: Int
        public var periods: Int
        public var address: UInt64
    }

    public func dirtied() throws(BedError) -> Dirtied {
        let values = Self.values(in: try ask(8, "stats"))
        guard let pages = values["pages"].flatMap({ Int($0) }), let periods = values["periods"].flatMap({ Int($0) }),
            let address = values["at"].flatMap({ UInt64($0) })
        else { throw BedError("the dirtier answers something else: \(values)") }
        return Dirtied(pages: pages, periods: periods, address: address)
    }

    /// SHA-256 of a disk as the guest reads it, past its page cache.
    public func diskDigest(_ disk: String = "/dev/vda") throws(BedError) -> String {
        let text = try shell("sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum \(disk)", limit: .seconds(300))
        return String(text.prefix { $0 != " " })
    }

    private func ask(_ port: Int, _ line: String) throws(BedError) -> String {
        try client.run(
            [try Programs.path("romulus-bed-client"), "ask", "address=\(address)", "port=\(port)", "--", line]
        ).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func values(in line: String) -> [String: String] {
        var values: [String: String] = [:]
        for word in line.split(separator: " ") {
            let parts = word.split(separator: "=", maxSplits: 1)
            if parts.count == 2 { values[String(parts[0])] = String(parts[1]) }
        }
        return values
    }
}
