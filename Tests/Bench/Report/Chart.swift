/// A picture of a part's figures, as data; `ChartDrawing` makes SVG of it.
struct Chart: Codable, Sendable {
    enum Kind: String, Codable, Sendable {
        /// Points joined by lines; x is a number.
        case line
        /// A bar for each point of the one series, from left to right; x is not used.
        case bar
    }

    struct Point: Codable, Sendable {
        var x: Double
        var y: Double
        /// The lowest and the highest value of a round, where they are known.
        var low: Double?
        var high: Double?
        /// The name of a bar.
        var label: String?
    }

    struct Series: Codable, Sendable {
        var name: String
        var points: [Point]
    }

    /// Its file below `docs/benchmarks`, without the ending.
    var id: String
    var title: String
    var kind: Kind
    var xLabel: String
    var yLabel: String
    /// Whether the y axis is logarithmic; bars of very different height need that.
    var isLogarithmic = false
    var series: [Series]
}

extension Chart {
    /// A chart of one bar for each of `figures`.
    static func bars(
        _ id: String, _ title: String, yLabel: String, isLogarithmic: Bool = false, _ bars: [(String, Samples)]
    ) -> Chart {
        let points = bars.map { name, samples in
            Point(
                x: 0, y: samples.median, low: samples.medians.min(), high: samples.medians.max(), label: name)
        }
        return Chart(
            id: id, title: title, kind: .bar, xLabel: "", yLabel: yLabel, isLogarithmic: isLogarithmic,
            series: [Series(name: yLabel, points: points)])
    }
}
