import Model
import Standby
import Telemetry

/// Whether the guests that this host is to start when another one is lost would have memory here: known before it is needed.
struct RoomWatch: Sendable {
    private static let period = Duration.seconds(5)

    let drivers: Drivers
    let chronicle: Chronicle

    /// Looks now and then until the task is cancelled.
    func run(_ registry: Registry) async {
        let missing = registry.gauge(Families.startMemoryMissing)
        var short: Set<NodeName> = []
        while !Task.isCancelled {
            let available = StartRoom.available(in: drivers.configuration.memoryDirectory, drivers.bases)
            let shortages = available.map { drivers.starts().shortages(available: $0) } ?? []
            missing.set(Double(shortages.map(\.missing).max() ?? 0))
            note(shortages, after: &short)
            try? await Task.sleep(for: Self.period)
        }
    }

    private func note(_ shortages: [StartRoom.Shortage], after short: inout Set<NodeName>) {
        for shortage in shortages where !short.contains(shortage.primary) {
            let (vms, host) = (shortage.vms.map(\.description).joined(separator: ", "), shortage.primary)
            chronicle.note(
                nil, .roomShort,
                "\(drivers.configuration.node) has no room for the guests of \(host) should that be lost: \(vms) want \(shortage.wanted >> 20) MiB of"
                    + " memory, and \(shortage.available >> 20) MiB are available; free some, or give one of them another standby"
            )
        }
        for host in short.subtracting(shortages.map(\.primary)).sorted() {
            chronicle.note(nil, .roomBack, "\(drivers.configuration.node) has room for the guests of \(host) again")
        }
        short = Set(shortages.map(\.primary))
    }
}
