import Foundation

/// What a verifier found. Bytes and records count as lost when they were acknowledged, or were written to a socket
/// that never answered for them, and are not to be seen at the end.
public protocol WorkloadReport: Codable, Sendable {
    /// True when nothing at all is wrong.
    var isClean: Bool { get }
    /// The longest time without an answer while one was awaited, in milliseconds.
    var longestSilenceMs: Double { get }
}

/// Of the echo client: every byte must come back once and in order.
public struct EchoReport: WorkloadReport {
    /// Bytes written, and bytes that came back as they should.
    public var sent = 0
    public var received = 0
    /// Bytes that did not come back, or not where they should have.
    public var lost = 0
    /// Bytes that came back and were never due: a repeated or an invented answer.
    public var unexpected = 0
    public var records = 0
    public var connections = 0
    public var connectionsLost = 0
    /// What was wrong with the first few connections that answered wrongly.
    public var mismatches: [String] = []
    public var longestSilenceMs = 0.0
    /// When that silence began, on CLOCK_MONOTONIC, and the longest one of a single connection.
    public var longestSilenceBeganNs: UInt64 = 0
    public var longestConnectionSilenceMs = 0.0
    public var latencyP50Ms = 0.0
    public var latencyP95Ms = 0.0
    public var latencyP99Ms = 0.0

    public init() {}
    public var isClean: Bool { lost == 0 && unexpected == 0 && connectionsLost == 0 && mismatches.isEmpty && sent > 0 }
}

/// Of the redis client: every acknowledged RPUSH must be in the list, in order and once.
public struct RedisReport: WorkloadReport {
    public var sent = 0
    public var acknowledged = 0
    public var connectionsLost = 0
    /// False when the list could not be read at the end; then nothing is known and all of it counts as missing.
    public var isVerified = false
    public var missing = 0
    public var duplicated = 0
    public var outOfOrder = 0
    /// Elements that no one pushed, or answers that do not fit the command.
    public var unexpected = 0
    public var failure: String?
    public var longestSilenceMs = 0.0
    public var latencyP50Ms = 0.0
    public var latencyP99Ms = 0.0

    public init() {}
    public var isClean: Bool {
        isVerified && missing == 0 && duplicated == 0 && outOfOrder == 0 && unexpected == 0 && connectionsLost == 0
            && acknowledged > 0
    }
}

/// Of the disk ledger: every record that was reported as durable must be whole on the disk the guest has at the end.
public struct LedgerReport: WorkloadReport {
    public var acknowledged = 0
    public var connectionsLost = 0
    /// False when the disk could not be read at the end; then all acknowledged slots count as lost.
    public var isVerified = false
    /// Slots whose last acknowledged record is not there, and slots whose record fails its checksum.
    public var lost = 0
    public var torn = 0
    /// Slots that hold a number above any that was written.
    public var unexpected = 0
    public var failure: String?
    public var longestSilenceMs = 0.0

    public init() {}
    public var isClean: Bool {
        isVerified && lost == 0 && torn == 0 && unexpected == 0 && connectionsLost == 0 && acknowledged > 0
    }
}

/// One line that a client process prints.
struct ClientLine<Report: WorkloadReport>: Codable {
    enum Event: String, Codable {
        /// Connected, and the first answer is there.
        case running
        case progress
        case final
    }

    let event: Event
    let report: Report

    func printed() {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = .sortedKeys
        guard let data = try? encoder.encode(self) else { return }
        FileHandle.standardOutput.write(data + Data("\n".utf8))
    }

    static func parsed(_ text: Substring) -> ClientLine? {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(Self.self, from: Data(text.utf8))
    }
}
