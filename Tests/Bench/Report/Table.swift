import Foundation

/// Figures as columns of text, for a terminal.
enum Table {
    static func text(_ figures: [Figure]) -> String {
        let rows = figures.map { figure in
            [
                figure.name, "\(number(figure.value)) \(figure.unit)", number(figure.p95), number(figure.p99),
                "\(figure.count)", "\(number(figure.low))..\(number(figure.high))", against(figure), ratio(figure),
                goal(figure), verdict(figure),
            ]
        }
        let head = [
            "figure", "median", "p95", "p99", "n", "rounds", "held against", "ratio (rounds)", "goal", "",
        ]
        return lines([head] + rows)
    }

    /// Columns as wide as their widest cell.
    static func lines(_ rows: [[String]]) -> String {
        let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { index, cell in
                index == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] + 2 - cell.count)
            }.joined()
        }.joined(separator: "\n")
    }

    static func number(_ value: Double) -> String {
        let digits =
            switch abs(value) {
            case ..<0.1: 3
            case ..<10: 2
            case ..<1000: 1
            default: 0
            }
        return value == 0 ? "0" : String(format: "%.\(digits)f", value)
    }

    static func against(_ figure: Figure) -> String {
        figure.base.map { "\(figure.baseName) \(number($0)) \(figure.unit)" } ?? ""
    }

    static func ratio(_ figure: Figure) -> String {
        guard figure.base != nil else { return "" }
        return "\(number(figure.ratio)) (\(number(figure.ratioLow))..\(number(figure.ratioHigh)))"
    }

    static func goal(_ figure: Figure) -> String {
        figure.goal.map { "\(figure.isFloor ? ">=" : "<=") \(number($0))" } ?? ""
    }

    static func verdict(_ figure: Figure) -> String {
        figure.isReached.map { $0 ? "reached" : "NOT REACHED" } ?? ""
    }
}
