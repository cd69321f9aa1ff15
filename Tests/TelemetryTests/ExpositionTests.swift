import Foundation
import Model
import Telemetry
import TestBed
import Testing

/// What a whole agent shows, judged by Prometheus' own linter and by checks that the linter does not make.
@Suite struct ExpositionTests {
    static let promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    static func fullText() throws -> String {
        let registry = Registry()
        _ = AgentMetrics(version: "0.1.0", registry: registry)
        _ = WitnessMetrics(registry: registry)
        PeerMetrics(peer: "beta", registry: registry).secondPathRTT.observe(nanoseconds: 250_000)
        _ = FencingMetrics(registry: registry)
        registry.gauge(Families.arbiterUp).set(1)
        registry.gauge(Families.startMemoryMissing).set(0)
        for name in ["web", "db-1"] {
            let vm = try #require(VMName(name))
            let metrics = VMMetrics(vm: vm, peer: "beta \"2\"", states: ["syncing", "protected"], registry: registry)
            metrics.record(VMMetricsTests.timings())
            metrics.recordHold(nanoseconds: 3_000_000_000_000)
        }
        return registry.text()
    }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// What it said to `text`, and whether it found no fault.
    static func promtool(_ arguments: [String], input text: String = "") throws -> (isGood: Bool, output: String) {
        let directory = try TemporaryDirectory("promtool")
        defer { directory.remove() }
        let input = directory.path + "/input"
        try Data(text.utf8).write(to: URL(fileURLWithPath: input))
        let command = ["/bin/sh", "-c", "exec \"$@\" < \(input)", "sh", try #require(promtool)] + arguments
        let outcome = try Child.outcome(of: command)
        return (outcome.exit == .code(0), outcome.output + outcome.errors)
    }

    static func check(_ text: String) throws -> (isGood: Bool, output: String) {
        try promtool(["check", "metrics"], input: text)
    }

    @Test(.enabled(if: promtool != nil, "promtool is not installed (apt-get install prometheus)"))
    func promtoolAcceptsIt() throws {
        let good = try Self.check(try Self.fullText())
        #expect(good.isGood, "promtool: \(good.output)")
        // The linter is awake: a counter without its suffix is reported.
        let bad = try Self.check("# HELP things Things.\n# TYPE things counter\nthings 1\n")
        #expect(!bad.isGood)
    }

    @Test func familiesAreContiguousAndTypedOnce() throws {
        var seen: [String] = []
        for line in try Self.fullText().split(separator: "\n") {
            if line.hasPrefix("# HELP ") {
                let name = String(line.split(separator: " ")[2])
                #expect(!seen.contains(name), "\(name) is announced twice")
                seen.append(name)
            } else if line.hasPrefix("# TYPE ") {
                #expect(String(line.split(separator: " ")[2]) == seen.last)
            } else {
                let sample = line.prefix { $0 != "{" && $0 != " " }
                let family = try #require(seen.last)
                let tails = ["", "_bucket", "_sum", "_count"]
                #expect(tails.contains { family + $0 == sample }, "\(sample) stands under \(family)")
            }
        }
        #expect(seen.sorted() == Families.all.map(\.name).sorted(), "every family is shown, and no other")
    }

    @Test func histogramsAreCumulativeUpToInfinity() throws {
        var last: [String: Double] = [:]
        var infinities = 0
        var counts = 0
        for line in try Self.fullText().split(separator: "\n") where !line.hasPrefix("#") {
            let value = try #require(line.split(separator: " ").last.flatMap { Double($0) })
            if let range = line.range(of: "le=\"") {
                let series = String(line[..<range.lowerBound])
                #expect(value >= last[series, default: 0], "\(line) is below the bucket before it")
                last[series] = value
                if line.contains("le=\"+Inf\"") { infinities += 1 }
            } else if line.prefix(while: { $0 != "{" }).hasSuffix("_count") {
                counts += 1
                let series = line.prefix { $0 != "}" }.replacing("_count{", with: "_bucket{") + ","
                #expect(last[String(series)] == value, "\(line) differs from its +Inf bucket")
            }
        }
        #expect(infinities == counts && counts > 0)
    }

    @Test func everyFamilyIsInTheManual() throws {
        let manual = Self.root.appending(path: "docs/METRICS.md")
        let text = try String(contentsOf: manual, encoding: .utf8)
        for family in Families.all {
            #expect(text.contains("`\(family.name)`"), "docs/METRICS.md does not mention \(family.name)")
        }
        for match in text.matches(of: /`(romulus_[a-z_]+|process_[a-z_]+)`/) {
            #expect(
                Families.all.contains { $0.name == match.1 }, "docs/METRICS.md lists \(match.1), which is not shown")
        }
    }

    @Test(.enabled(if: promtool != nil, "promtool is not installed (apt-get install prometheus)"))
    func theAlertingRulesFireWhenTheyShould() throws {
        for arguments in [["check", "rules", "romulus.rules.yaml"], ["test", "rules", "romulus.rules.test.yaml"]] {
            let path = Self.root.appending(path: "deploy/\(arguments[2])").path
            let outcome = try Self.promtool([arguments[0], arguments[1], path])
            #expect(outcome.isGood, "promtool: \(outcome.output)")
        }
    }

    @Test func theAlertingRulesUseSeriesThatExist() throws {
        let rules = try String(contentsOf: Self.root.appending(path: "deploy/romulus.rules.yaml"), encoding: .utf8)
        var used = 0
        for match in rules.matches(of: /romulus_[a-z_]+/) {
            let name = match.0.hasSuffix("_bucket") ? match.0.dropLast("_bucket".count) : match.0
            #expect(Families.all.contains { $0.name == name }, "the rules use \(name), which is not shown")
            used += 1
        }
        #expect(used > 10)
    }
}
