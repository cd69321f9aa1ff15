import Foundation
import TestBed

/// `make bench`: what protection costs, as ratios within one run, and `.build/bench.json` with the same figures.
///
///     romulus-bench                      all parts; writes .build/bench.json
///     romulus-bench PART...              these parts only; writes no file
///     romulus-bench --list               the names of the parts
///     --json FILE                        writes the figures there
///     --write-docs                       writes docs/BENCHMARKS.md and its charts too; only with all parts
///     --from FILE                        measures nothing and takes the figures of an earlier run
///
/// Ends with 0 when every goal is reached, 1 when one is not, 2 when a part failed, 64 for words it does not know.
@main
struct BenchProgram {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        do {
            if try await Helpers.run(words) { exit(0) }
            guard let orders = Orders(words) else {
                Bench.say("romulus-bench [PART...] [--list] [--json FILE] [--write-docs] [--from FILE]; the parts are:")
                Bench.say(Bench.list)
                exit(64)
            }
            exit(try await run(orders))
        } catch {
            Bench.say("The bench failed: \(error)")
            exit(2)
        }
    }

    private static func run(_ orders: Orders) async throws -> Int32 {
        if orders.lists {
            Bench.say(Bench.list)
            return 0
        }
        let report: Report
        if let source = orders.source {
            report = try Report.load(source)
        } else {
            report = try await Bench.run(orders.parts)
        }
        for part in report.parts {
            Bench.say("\n\(part.name), \(Int(part.seconds)) s")
            Bench.say(part.failure.map { "  failed: \($0)" } ?? Table.text(part.measured.figures))
        }
        if let path = orders.target {
            try report.write(to: path)
            Bench.say("\nwritten to \(path)")
        }
        if orders.writesDocs { try Document.write(report) }
        return report.isComplete ? (report.isReached ? 0 : 1) : 2
    }

    /// What the command line asks for.
    private struct Orders {
        var parts = Bench.Part.allCases
        var lists = false
        var writesDocs = false
        var source: String?
        var target: String?

        init?(_ words: [String]) {
            var named: [Bench.Part] = []
            var rest = words[...]
            while let word = rest.popFirst() {
                switch word {
                case "--list": lists = true
                case "--write-docs": writesDocs = true
                case "--from", "--json":
                    guard let path = rest.popFirst() else { return nil }
                    if word == "--from" { source = path } else { target = path }
                default:
                    guard let part = Bench.Part(rawValue: word) else { return nil }
                    named.append(part)
                }
            }
            guard named.isEmpty || (!writesDocs && source == nil) else { return nil }
            if !named.isEmpty {
                parts = named
            } else if source == nil, target == nil {
                target = FileManager.default.currentDirectoryPath + "/.build/bench.json"
            }
        }
    }

    /// This program as a process of its own, where a part needs one.
    private enum Helpers {
        /// Whether `words` were such an order.
        static func run(_ words: [String]) async throws -> Bool {
            let rest = Array(words.dropFirst())
            switch words.first {
            case ScanBench.order: try ScanBench.scan(rest.first ?? "")
            case PageRecorder.order where rest.count == 2: try PageRecorder.record(rest[0], to: rest[1])
            case DetectionPeer.order: try await DetectionPeer.run(rest)
            case DetectionObserver.order: try await DetectionObserver.run(rest)
            case EchoProbe.order: try EchoProbe.run(rest)
            case BulkProbe.order: try BulkProbe.run(rest)
            default: return false
            }
            return true
        }
    }
}
