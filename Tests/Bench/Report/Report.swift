import Foundation
import TestBed

/// What one part of the bench gave.
struct Measured: Codable, Sendable {
    var figures: [Figure]
    var charts: [Chart] = []
}

/// What one run of the bench gave, as it lies in `.build/bench.json`.
struct Report: Codable {
    struct Part: Codable {
        var name: String
        /// How long it took.
        var seconds: Double
        var measured: Measured
        /// Why there are no figures.
        var failure: String?
    }

    /// In UTC.
    var date: String
    var machine: Machine
    var parts: [Part]

    var figures: [Figure] { parts.flatMap(\.measured.figures) }
    var isComplete: Bool { parts.allSatisfy { $0.failure == nil } }
    var isReached: Bool { isComplete && figures.allSatisfy { $0.isReached ?? true } }

    static func load(_ path: String) throws -> Report {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        return try decoder.decode(Report.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        try encoder.encode(self).write(to: URL(fileURLWithPath: path))
    }
}

/// Where the figures come from.
struct Machine: Codable {
    var cpu: String
    var cores: Int
    var memoryBytes: UInt64
    var kernel: String
    var qemu: String
    /// `/proc/loadavg` when the bench began: what else the machine had to do.
    var load: String
    /// Of the sources; with `+` where they had changes that were not committed.
    var commit: String

    static func describe() -> Machine {
        func output(_ command: [String]) -> String {
            ((try? Child.run(command)) ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }
        let model = text("/proc/cpuinfo").firstMatch(of: /model name\s*: (.+)/).map { String($0.1) }
        let qemu = output(["qemu-system-x86_64", "--version"]).firstMatch(of: /version (\S+)/).map { String($0.1) }
        let changes = output(["git", "status", "--porcelain", "--untracked-files=no"])
        return Machine(
            cpu: model ?? "unknown", cores: ProcessInfo.processInfo.activeProcessorCount,
            memoryBytes: ProcessInfo.processInfo.physicalMemory,
            kernel: output(["uname", "-r"]), qemu: qemu ?? "unknown",
            load: output(["cut", "-d ", "-f1-3", "/proc/loadavg"]),
            commit: output(["git", "rev-parse", "--short", "HEAD"]) + (changes.isEmpty ? "" : "+"))
    }
}
