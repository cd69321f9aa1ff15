import Foundation
import TestBed

/// `make bench`: what protection costs, as ratios within one run, and `.build/bench.json` with the same figures.
/// `romulus-bench PART...` measures some parts only and writes no file.
@main
struct BenchProgram {
    static func main() async {
        do {
            let words = CommandLine.arguments.dropFirst()
            if words.first == ScanBench.order, words.count == 2 {
                try ScanBench.scan(words[2])
                exit(0)
            }
            if words.first == PageRecorder.order, words.count == 3 {
                try PageRecorder.record(words[2], to: words[3])
                exit(0)
            }
            switch words.first {
            case DetectionPeer.order?: try await DetectionPeer.run(Array(words.dropFirst()))
            case DetectionObserver.order?:
                try await DetectionObserver.run(Array(words.dropFirst()))
                exit(0)
            default: break
            }
            let parts = words.compactMap(Bench.Part.init)
            guard parts.count == words.count else {
                print("The parts of the bench are: \(Bench.Part.allCases.map(\.rawValue).joined(separator: ", ")).")
                exit(64)
            }
            let figures = try await Bench.run(parts.isEmpty ? Bench.Part.allCases : parts)
            print(Figure.table(figures))
            guard parts.isEmpty else { exit(figures.allSatisfy(\.isReached) ? 0 : 1) }
            let path = FileManager.default.currentDirectoryPath + "/.build/bench.json"
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(Report(machine: Machine.describe(), figures: figures))
                .write(to: URL(fileURLWithPath: path))
            print("written to \(path)")
            exit(figures.allSatisfy(\.isReached) ? 0 : 1)
        } catch {
            print("The bench failed: \(error)")
            exit(2)
        }
    }
}

struct Report: Encodable {
    var machine: Machine
    var figures: [Figure]
}

struct Machine: Encodable {
    var kernel: String
    var cores: Int
    var load: String
    var commit: String

    static func describe() -> Machine {
        func output(_ command: [String]) -> String {
            ((try? Child.run(command)) ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        }
        return Machine(
            kernel: output(["uname", "-r"]), cores: ProcessInfo.processInfo.activeProcessorCount,
            load: output(["cat", "/proc/loadavg"]), commit: output(["git", "rev-parse", "--short", "HEAD"]))
    }
}

/// One figure: what was measured, beside what it is held against in the same run.
struct Figure: Encodable {
    var name: String
    var value: Double
    var unit: String
    /// What the value is divided by, and what that is; 1 for an absolute figure.
    var base: Double
    var baseName: String
    var ratio: Double
    /// The ratio to reach.
    var goal: Double
    /// All values that `value` is the median of.
    var spread: [Double]
    var isReached: Bool { ratio <= goal }

    init(
        _ name: String, _ values: [Double], _ unit: String, over bases: [Double] = [1], _ baseName: String = "",
        goal: Double
    ) {
        self.name = name
        self.unit = unit
        self.baseName = baseName
        self.goal = goal
        value = median(values)
        base = median(bases)
        ratio = value / base
        spread = values
    }

    static func table(_ figures: [Figure]) -> String {
        func cell(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        func number(_ value: Double) -> String { String(format: value < 10 ? "%.2f" : "%.1f", value) }
        let head =
            cell("figure", 44) + cell("value", 14) + cell("held against", 36) + cell("ratio", 8) + cell("goal", 8)
        let rows = figures.map { figure in
            let against = figure.baseName.isEmpty ? "" : "\(figure.baseName) \(number(figure.base)) \(figure.unit)"
            return cell(figure.name, 44) + cell("\(number(figure.value)) \(figure.unit)", 14) + cell(against, 36)
                + cell(number(figure.ratio), 8) + cell("<= \(number(figure.goal))", 8)
                + (figure.isReached ? "reached" : "NOT REACHED")
        }
        return ([head] + rows).joined(separator: "\n")
    }
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
}
