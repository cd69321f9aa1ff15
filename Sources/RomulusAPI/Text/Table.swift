/// Rows of text in aligned columns, as a terminal shows them.
public struct Table: Sendable {
    public enum Alignment: Sendable { case left, right }

    private let titles: [String]
    private let alignments: [Alignment]
    private var rows: [[(text: String, style: Style)]] = []

    public init(_ columns: [(title: String, alignment: Alignment)]) {
        titles = columns.map(\.title)
        alignments = columns.map(\.alignment)
    }

    public mutating func add(_ cells: [(String, Style)]) {
        precondition(cells.count == titles.count, "a row has as many cells as there are columns")
        rows.append(cells.map { (text: Self.oneLine($0.0), style: $0.1) })
    }

    /// The table with a newline behind each row. Styles are shown only with `colour`.
    public func text(colour: Bool) -> String {
        let widths = titles.indices.map { column in
            ([titles[column]] + rows.map { $0[column].text }).map(\.count).max() ?? 0
        }
        var result = line(titles.map { (text: $0, style: .bold) }, widths, colour)
        for row in rows { result += line(row, widths, colour) }
        return result
    }

    private func line(_ cells: [(text: String, style: Style)], _ widths: [Int], _ colour: Bool) -> String {
        var result = ""
        for (index, cell) in cells.enumerated() {
            let padding = String(repeating: " ", count: widths[index] - cell.text.count)
            let text = cell.style.apply(to: cell.text, colour: colour)
            let last = index == cells.count - 1
            switch alignments[index] {
            case .left: result += last ? text : text + padding
            case .right: result += padding + text
            }
            if !last { result += "  " }
        }
        // A cell at the end may be empty: leave no blanks at the end of a line.
        while result.last == " " { result.removeLast() }
        return result + "\n"
    }

    /// What comes from elsewhere must not break a row or drive the terminal.
    static func oneLine(_ text: String) -> String {
        String(
            String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
    }
}

/// How a piece of text stands out on a terminal.
public enum Style: Sendable {
    case plain, bold, good, warning, bad, faint

    public func apply(to text: String, colour: Bool) -> String {
        guard colour, !text.isEmpty else { return text }
        let code: String? =
            switch self {
            case .plain: nil
            case .bold: "1"
            case .good: "32"
            case .warning: "33"
            case .bad: "31"
            case .faint: "2"
            }
        return code.map { "\u{1b}[\($0)m\(text)\u{1b}[0m" } ?? text
    }
}
