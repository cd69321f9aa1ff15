/// The figures of an agent: counters, gauges and histograms, and the text in which Prometheus reads them.
///
/// Owns the instruments and the registry that lists them; `VMMetrics` names every series of a protected VM and
/// `AgentMetrics` those of the process. Instruments are added to without locks, so the epoch path may touch them
/// per epoch (never per page). Imports the standard library, Glibc and `Model`; opens nothing but `/proc/self`.

/// What a family of series is called, what it means and what kind of number it carries.
public struct Family: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        /// Grows only; the name ends in `_total`.
        case counter
        case gauge
        /// Durations. The bounds are upper, inclusive, rising, in nanoseconds; they are shown in seconds.
        case histogram(bounds: [UInt64])

        var word: String {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    public let name: String
    /// One sentence; shown in the `HELP` line.
    public let help: String
    public let kind: Kind

    public init(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        self.help = help
        self.kind = kind
    }
}

/// One `name="value"` of a series. The value may be any text; it is escaped when written.
public struct Label: Sendable, Hashable {
    public let name: String
    public let value: String

    public init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}
