import Foundation
import TestBed

/// `docs/BENCHMARKS.md` and its charts. What stands outside the two marks is written by hand and stays as it is.
enum Document {
    private static let path = "docs/BENCHMARKS.md"
    private static let charts = "docs/benchmarks"
    private static let begin = "<!-- from here on written by `make bench DOCS=1` -->"
    private static let end = "<!-- up to here -->"

    static func write(_ report: Report) throws {
        let text = try String(contentsOfFile: path, encoding: .utf8)
        guard let first = text.range(of: begin + "\n"), let last = text.range(of: end),
            first.upperBound <= last.lowerBound
        else { throw BedError("\(path) lacks the lines “\(begin)” and “\(end)”, between which the figures stand.") }
        let written = text[..<first.upperBound] + "\n" + body(report) + "\n" + text[last.lowerBound...]
        try String(written).write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.createDirectory(atPath: charts, withIntermediateDirectories: true)
        for chart in report.parts.flatMap(\.measured.charts) {
            try ChartDrawing.svg(chart).write(toFile: "\(charts)/\(chart.id).svg", atomically: true, encoding: .utf8)
        }
        Bench.say("written to \(path) and \(charts)")
    }

    private static func body(_ report: Report) -> String {
        ([machine(report), goals(report)] + report.parts.map(part)).joined(separator: "\n")
    }

    private static func machine(_ report: Report) -> String {
        let machine = report.machine
        let minutes = Int((report.parts.map(\.seconds).reduce(0, +) / 60).rounded())
        let rows = [
            ["date", "\(report.date), \(minutes) minutes"], ["commit", machine.commit],
            [
                "machine",
                "\(machine.cpu), \(machine.cores) cores, \(Table.number(Double(machine.memoryBytes) / Double(1 << 30))) GiB",
            ],
            ["load before the run", machine.load], ["Linux", machine.kernel], ["QEMU", "\(machine.qemu), TCG"],
        ]
        return "## The run\n\n" + table(["", ""], rows)
    }

    private static func goals(_ report: Report) -> String {
        let figures = report.figures.filter { $0.goal != nil }
        let reached = figures.count { $0.isReached == true }
        let rows = figures.map { figure in
            [
                figure.name, value(figure), Table.against(figure), figure.base == nil ? "" : Table.number(figure.ratio),
                Table.goal(figure), figure.isReached == true ? "yes" : "**no**",
            ]
        }
        return
            "## Goals\n\n\(reached) of \(figures.count) goals are reached. Where there is a ratio, the goal is about the "
            + "ratio.\n\n" + table(["figure", "value", "held against", "ratio", "goal", "reached"], rows)
    }

    private static func part(_ part: Report.Part) -> String {
        let heading = "## \(part.name)\n\n\(about(part.name))\n\n"
        if let failure = part.failure {
            let reason = failure.split(separator: "\n").first.map(String.init) ?? ""
            return heading + "Not measured: \(reason)\n"
        }
        let rows = part.measured.figures.map { figure in
            [
                figure.name, value(figure), Table.number(figure.p95), Table.number(figure.p99), "\(figure.count)",
                "\(Table.number(figure.low)) .. \(Table.number(figure.high))", Table.against(figure),
                Table.ratio(figure),
                Table.goal(figure),
            ]
        }
        let pictures = part.measured.charts.map { "\n![\($0.title)](benchmarks/\($0.id).svg)\n" }
        let head = [
            "figure", "median", "p95", "p99", "n", "medians of rounds", "held against", "ratio (of rounds)", "goal",
        ]
        return heading + table(head, rows) + pictures.joined()
    }

    private static func about(_ part: String) -> String {
        let text = Bench.Part(rawValue: part)?.about ?? part
        return text.prefix(1).uppercased() + text.dropFirst() + ". `romulus-bench \(part)`"
    }

    private static func value(_ figure: Figure) -> String { "\(Table.number(figure.value)) \(figure.unit)" }

    private static func table(_ head: [String], _ rows: [[String]]) -> String {
        let lines = [head, head.map { _ in "---" }] + rows
        return lines.map { "| " + $0.joined(separator: " | ") + " |" }.joined(separator: "\n") + "\n"
    }
}
