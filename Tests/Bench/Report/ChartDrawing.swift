import Foundation

/// A chart as SVG, which a browser shows inside a Markdown page. Light background of its own, so that it reads the same
/// on a dark page.
struct ChartDrawing {
    private static let colours = ["#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706", "#0891b2", "#4b5563"]
    private static let font = "font-family=\"system-ui, sans-serif\""

    private let chart: Chart
    private var lines: [String] = []

    static func svg(_ chart: Chart) -> String {
        var drawing = ChartDrawing(chart: chart)
        switch chart.kind {
        case .line: drawing.drawLines()
        case .bar: drawing.drawBars()
        }
        return drawing.lines.joined(separator: "\n") + "\n"
    }

    private init(chart: Chart) { self.chart = chart }

    // MARK: - Kinds

    /// Bars lie, so that their names have room.
    private mutating func drawBars() {
        let bars = chart.series.first?.points ?? []
        let (left, right, top, step) = (310.0, 90.0, 56.0, 30.0)
        let (width, height) = (800.0, top + Double(bars.count) * step + 44)
        open(width, height)
        let values = bars.flatMap { [$0.y, $0.low ?? $0.y, $0.high ?? $0.y] }.filter(\.isFinite)
        let scale = Scale(values, isLogarithmic: chart.isLogarithmic, from: left, to: width - right)
        for tick in scale.ticks {
            let x = scale.position(tick)
            line(x, top - 6, x, height - 38, "#e5e7eb")
            text(x, height - 22, Table.number(tick), anchor: "middle", colour: "#6b7280")
        }
        for (index, bar) in bars.enumerated() where bar.y.isFinite {
            let y = top + Double(index) * step
            let end = scale.position(bar.y)
            rectangle(left, y, max(1, end - left), step - 10, index == 0 ? Self.colours[0] : "#9ca3af")
            if let low = bar.low, let high = bar.high, low.isFinite, high.isFinite {
                line(scale.position(low), y + (step - 10) / 2, scale.position(high), y + (step - 10) / 2, "#111827")
            }
            text(left - 8, y + 14, bar.label ?? "", anchor: "end")
            text(max(end, scale.position(bar.high ?? bar.y)) + 6, y + 14, Table.number(bar.y))
        }
        text(width - right, height - 6, chart.yLabel, anchor: "end", colour: "#6b7280")
        close()
    }

    private mutating func drawLines() {
        let (left, right, top, bottom) = (70.0, 30.0, 72.0, 52.0)
        let (width, height) = (800.0, 420.0)
        open(width, height)
        let points = chart.series.flatMap(\.points)
        let across = Scale(points.map(\.x), isLogarithmic: false, from: left, to: width - right)
        let up = Scale(
            points.flatMap { [$0.y, $0.high ?? $0.y] }, isLogarithmic: chart.isLogarithmic, from: height - bottom,
            to: top)
        for tick in across.ticks {
            line(across.position(tick), top, across.position(tick), height - bottom, "#f3f4f6")
            text(across.position(tick), height - bottom + 18, Table.number(tick), anchor: "middle", colour: "#6b7280")
        }
        for tick in up.ticks {
            line(left, up.position(tick), width - right, up.position(tick), "#e5e7eb")
            text(left - 8, up.position(tick) + 4, Table.number(tick), anchor: "end", colour: "#6b7280")
        }
        for (index, series) in chart.series.enumerated() {
            let colour = Self.colours[index % Self.colours.count]
            let path = series.points.map { "\(number(across.position($0.x))),\(number(up.position($0.y)))" }
            lines.append(
                "<polyline points=\"\(path.joined(separator: " "))\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>"
            )
            for point in series.points {
                let (x, y) = (across.position(point.x), up.position(point.y))
                if let low = point.low, let high = point.high {
                    line(x, up.position(low), x, up.position(high), colour)
                }
                lines.append("<circle cx=\"\(number(x))\" cy=\"\(number(y))\" r=\"3.5\" fill=\"\(colour)\"/>")
            }
            let x = left + Double(index) * 200
            rectangle(x, 44, 14, 4, colour)
            text(x + 20, 50, series.name)
        }
        text(width - right, height - 8, chart.xLabel, anchor: "end", colour: "#6b7280")
        text(8, top - 8, chart.yLabel, colour: "#6b7280")
        close()
    }

    // MARK: - Elements

    private mutating func open(_ width: Double, _ height: Double) {
        lines.append(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(number(width)) \(number(height))\" "
                + "width=\"\(number(width))\" height=\"\(number(height))\" role=\"img\">")
        lines.append("<title>\(Self.escaped(chart.title))</title>")
        rectangle(0, 0, width, height, "#ffffff")
        lines.append(
            "<text x=\"16\" y=\"26\" \(Self.font) font-size=\"16\" font-weight=\"600\" fill=\"#111827\">"
                + "\(Self.escaped(chart.title))</text>")
    }

    private mutating func close() { lines.append("</svg>") }

    private mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ colour: String) {
        lines.append(
            "<line x1=\"\(number(x1))\" y1=\"\(number(y1))\" x2=\"\(number(x2))\" y2=\"\(number(y2))\" stroke=\"\(colour)\"/>"
        )
    }

    private mutating func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double, _ colour: String) {
        lines.append(
            "<rect x=\"\(number(x))\" y=\"\(number(y))\" width=\"\(number(width))\" height=\"\(number(height))\" fill=\"\(colour)\"/>"
        )
    }

    private mutating func text(
        _ x: Double, _ y: Double, _ text: String, anchor: String = "start", colour: String = "#374151"
    ) {
        lines.append(
            "<text x=\"\(number(x))\" y=\"\(number(y))\" \(Self.font) font-size=\"12\" text-anchor=\"\(anchor)\" "
                + "fill=\"\(colour)\">\(Self.escaped(text))</text>")
    }

    private func number(_ value: Double) -> String {
        value == value.rounded() ? "\(Int(value))" : String(format: "%.1f", value)
    }

    private static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
    }
}

/// Where a value lies on an axis, and which values are written beside it.
private struct Scale {
    let ticks: [Double]
    private let isLogarithmic: Bool
    private let low: Double
    private let high: Double
    private let from: Double
    private let to: Double

    init(_ values: [Double], isLogarithmic: Bool, from: Double, to: Double) {
        self.from = from
        self.to = to
        let usable = values.filter { $0.isFinite && (!isLogarithmic || $0 > 0) }
        let top = usable.max() ?? 1
        self.isLogarithmic = isLogarithmic
        if isLogarithmic {
            let first = Foundation.floor(log10(usable.min() ?? 0.1))
            let last = max(first + 1, log10(top).rounded(.up))
            ticks = stride(from: first, through: last, by: 1).map { pow(10, $0) }
            low = first
            high = last
        } else {
            let step = Self.step(top / 5)
            ticks = stride(from: 0, through: (top / step).rounded(.up) * step + step / 2, by: step).map { $0 }
            low = 0
            high = ticks.last ?? 1
        }
    }

    /// The next of 1, 2, 5, 10, 20, … .
    private static func step(_ least: Double) -> Double {
        guard least > 0 else { return 1 }
        let power = pow(10, Foundation.floor(log10(least)))
        return power * ([1, 2, 5].first { $0 * power >= least } ?? 10)
    }

    func position(_ value: Double) -> Double {
        let place = isLogarithmic ? log10(max(value, pow(10, low))) : value
        return from + (place - low) / (high - low) * (to - from)
    }
}
