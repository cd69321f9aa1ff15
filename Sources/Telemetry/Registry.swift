import Synchronization

/// The list of all series, by family, and the only place that writes them out.
///
/// Asking twice for the same family and labels gives the same instrument, so that an agent may set up a VM again after
/// a new session without a second copy of its series.
public final class Registry: Sendable {
    enum Instrument: Sendable {
        case counter(Counter)
        case gauge(Gauge)
        case histogram(Histogram)
        /// The name of the label that tells the states apart, and the states.
        case states(String, StateSet)
    }

    struct Series: Sendable {
        let labels: [Label]
        let instrument: Instrument
    }

    struct Entry: Sendable {
        let family: Family
        var series: [Series] = []
    }

    private struct State {
        var entries: [Entry] = []
        var positions: [String: Int] = [:]
        var collectors: [@Sendable () -> Void] = []
    }

    private let state = Mutex(State())

    public init() {}

    /// A counter of a `counter` family.
    public func counter(_ family: Family, _ labels: [Label] = []) -> Counter {
        let instrument = find(family, labels) { .counter(Counter()) }
        guard case .counter(let counter) = instrument else { wrongKind(family) }
        return counter
    }

    /// A gauge of a `gauge` family, or of a `counter` family whose growing number is kept elsewhere (by the kernel, say).
    public func gauge(_ family: Family, _ labels: [Label] = []) -> Gauge {
        let instrument = find(family, labels) { .gauge(Gauge()) }
        guard case .gauge(let gauge) = instrument else { wrongKind(family) }
        return gauge
    }

    /// A histogram with the bounds of its family.
    public func histogram(_ family: Family, _ labels: [Label] = []) -> Histogram {
        guard case .histogram(let bounds) = family.kind else { wrongKind(family) }
        let instrument = find(family, labels) { .histogram(Histogram(bounds: bounds)) }
        guard case .histogram(let histogram) = instrument else { wrongKind(family) }
        return histogram
    }

    /// One 0/1 series per name, told apart by the label `label`.
    public func states(_ family: Family, _ labels: [Label] = [], label: String, names: [String]) -> StateSet {
        let instrument = find(family, labels) { .states(label, StateSet(names: names)) }
        guard case .states(_, let set) = instrument else { wrongKind(family) }
        return set
    }

    /// Removes every series that carries this label. Those who still hold its instruments may go on adding in vain.
    public func remove(_ label: Label) {
        state.withLock { state in
            for index in state.entries.indices {
                state.entries[index].series.removeAll { $0.labels.contains(label) }
            }
        }
    }

    /// `body` runs before each `text()`, to fetch numbers that are kept elsewhere.
    public func beforeScrape(_ body: @escaping @Sendable () -> Void) {
        state.withLock { $0.collectors.append(body) }
    }

    /// Everything in Prometheus text format 0.0.4 (content type `Registry.contentType`).
    public func text() -> String {
        for collect in state.withLock({ $0.collectors }) { collect() }
        var writer = TextFormat()
        for entry in state.withLock({ $0.entries }) where !entry.series.isEmpty { writer.write(entry) }
        return writer.text
    }

    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private func find(_ family: Family, _ labels: [Label], make: () -> Instrument) -> Instrument {
        state.withLock { state in
            let position: Int
            if let known = state.positions[family.name] {
                position = known
            } else {
                position = state.entries.count
                state.entries.append(Entry(family: family))
                state.positions[family.name] = position
            }
            if let series = state.entries[position].series.first(where: { $0.labels == labels }) {
                return series.instrument
            }
            let series = Series(labels: labels, instrument: make())
            state.entries[position].series.append(series)
            return series.instrument
        }
    }

    private func wrongKind(_ family: Family) -> Never {
        preconditionFailure("metric \(family.name) was asked for as a kind of instrument that it is not")
    }
}
