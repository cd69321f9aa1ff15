import Foundation
import TestBed

/// How soon a silent host is noticed, against how often a slow one is taken for dead: real links between two network
/// namespaces, with nothing to do, under load of the CPUs, and with a peer that stands still now and then.
///
/// Two processes of this program carry it out, `DetectionPeer` at host B and `DetectionObserver` at host A, where fixed
/// and adaptive judges of several settings look at the same arrivals.
enum DetectionBench {
    /// What the observer saw in one setting.
    struct Setting: Codable {
        /// How long the peer was watched, and was well.
        var watchedSeconds: Double
        var contenders: [Outcome]
    }

    struct Outcome: Codable {
        var name: String
        var falseAlarms: Int
        /// From the fault to the verdict, in milliseconds.
        var detections: [Double]
        /// Faults that were not noticed within two seconds.
        var missed: Int
        /// How much silence was borne at the end of the watch, in milliseconds.
        var borne: Double
    }

    struct Result: Codable {
        var settings: [String: Setting]
        /// From the end of the peer's process to the end of the link, in milliseconds.
        var closed: [Double]
    }

    /// In the order in which they are measured.
    static let order = ["idle", "load", "load and stalls", "link cut", "observer stopped"]
    /// What the agent does by default.
    static let ours = "adaptive 300-500"

    static let about =
        "how soon a silent host is noticed, and how often a slow one is taken for dead; two and a half minutes"

    static func measure() async throws -> Measured {
        let result = try await run()
        Bench.say(table(result))
        let path = FileManager.default.currentDirectoryPath + "/.build/bench-detection.json"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(result).write(to: URL(fileURLWithPath: path))
        Bench.say("written to \(path)")
        return Measured(figures: figures(result))
    }

    private static func run() async throws -> Result {
        try await Bed.with { bed in
            let pki = "\(bed.a.stateDirectory)/pki"
            try DetectionPeer.makeIdentities(pki)
            let program = CommandLine.arguments[0]
            let peers = try (0..<4).map { index in
                try bed.b.spawn(
                    [program, DetectionPeer.order, pki, bed.b.replicationAddress ?? "", "\(7310 + index)"],
                    name: "detection-peer-\(index)")
            }
            try await eventually("the peers listen", within: .seconds(20)) {
                peers.allSatisfy { $0.output.contains("listens") } ? true : nil
            }
            let observer = try bed.a.spawn(
                [
                    program, DetectionObserver.order, pki, bed.b.replicationAddress ?? "",
                    peers.map { "\($0.pid)" }.joined(separator: ","), bed.a.namespace,
                ], name: "detection-observer")
            let exit = try await observer.wait(within: .seconds(240))
            guard exit == .code(0) else { throw BedError("the observer ended with \(exit): \(observer.errors)") }
            return try JSONDecoder().decode(Result.self, from: Data(observer.output.utf8))
        }
    }

    private static func table(_ result: Result) -> String {
        func cell(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        func number(_ value: Double) -> String { String(format: "%.0f", value) }
        var lines: [String] = []
        for name in order {
            guard let setting = result.settings[name] else { continue }
            lines.append("\(name): watched for \(number(setting.watchedSeconds)) s")
            lines.append(
                cell("  judge, ms", 26) + cell("false alarms", 14) + cell("borne", 8)
                    + "detection p50 / p95 / max, ms (n)")
            for outcome in setting.contenders {
                let times = outcome.detections
                let found =
                    times.isEmpty ? "-" : [0.5, 0.95, 1].map { number(quantile(times, $0)) }.joined(separator: " / ")
                lines.append(
                    cell("  \(outcome.name)", 26) + cell("\(outcome.falseAlarms)", 14)
                        + cell(number(outcome.borne), 8) + "\(found) (\(times.count))"
                        + (outcome.missed > 0 ? ", \(outcome.missed) missed" : ""))
            }
        }
        return lines.joined(separator: "\n")
    }

    /// The settings that the agent has by default, against what is promised.
    private static func figures(_ result: Result) -> [Figure] {
        func outcome(_ setting: String, _ name: String) -> Outcome? {
            result.settings[setting]?.contenders.first { $0.name == name }
        }
        func alarms(_ setting: String) -> Figure? {
            outcome(setting, ours).map { Figure("false alarms, \(setting)", [Double($0.falseAlarms)], "", goal: 0) }
        }
        var figures = ["idle", "load", "load and stalls", "link cut"].compactMap { setting in
            outcome(setting, ours).map { Figure("silent host, \(setting)", $0.detections, "ms", goal: 500) }
        }
        figures += ["idle", "load", "observer stopped"].compactMap { alarms($0) }
        // A limit that is as short whatever was seen takes many of the stalls for deaths.
        if let ours = outcome("load and stalls", ours), let short = outcome("load and stalls", "fixed 150") {
            figures.append(
                Figure(
                    "false alarms, load and stalls", [Double(ours.falseAlarms)], "", over: [Double(short.falseAlarms)],
                    "a fixed 150 ms", goal: 0.25))
        }
        figures.append(Figure("dead agent, link closed", result.closed, "ms", goal: 50))
        return figures
    }
}
