/// Writes families in Prometheus text format 0.0.4: `HELP` and `TYPE` once, then all series of the family together.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
struct TextFormat {
    private(set) var text = ""

    mutating func write(_ entry: Registry.Entry) {
        let name = entry.family.name
        text += "# HELP \(name) \(Self.escaped(entry.family.help, quotes: false))\n"
        text += "# TYPE \(name) \(entry.family.kind.word)\n"
        for series in entry.series {
            switch series.instrument {
            case .counter(let counter):
                sample(name, series.labels, String(counter.value))
            case .gauge(let gauge):
                sample(name, series.labels, Self.number(gauge.value))
            case .states(let label, let set):
                let current = set.value
                for state in set.names {
                    sample(name, series.labels + [Label(label, state)], state == current ? "1" : "0")
                }
            case .histogram(let histogram):
                write(histogram, name, series.labels)
            }
        }
    }

    private mutating func write(_ histogram: Histogram, _ name: String, _ labels: [Label]) {
        let snapshot = histogram.snapshot
        var cumulated: UInt64 = 0
        for (bound, count) in zip(histogram.bounds, snapshot.buckets) {
            cumulated &+= count
            sample(name + "_bucket", labels + [Label("le", Self.seconds(bound))], String(cumulated))
        }
        let count = String(snapshot.count)
        sample(name + "_bucket", labels + [Label("le", "+Inf")], count)
        sample(name + "_sum", labels, Self.seconds(snapshot.totalNanoseconds))
        sample(name + "_count", labels, count)
    }

    private mutating func sample(_ name: String, _ labels: [Label], _ value: String) {
        text += name
        if !labels.isEmpty {
            text += "{"
            for (index, label) in labels.enumerated() {
                if index > 0 { text += "," }
                text += "\(label.name)=\"\(Self.escaped(label.value, quotes: true))\""
            }
            text += "}"
        }
        text += " \(value)\n"
    }

    static func seconds(_ nanoseconds: UInt64) -> String {
        number(Double(nanoseconds) / 1e9)
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value) { return String(whole) }
        return value.description
    }

    static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
