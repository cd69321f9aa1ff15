import Foundation
import TestBed

/// What a guest costs that does nothing.
enum IdleBench {
    static let about = "the agent's CPU and the link's bytes for a guest that does nothing, --epoch-ms 25"

    private static let seconds = 6.0

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            let byDefault = try await costs(rig)
            try await rig.unprotect()
            try await rig.setEpochs(.fixed(milliseconds: 25))
            let forced = try await costs(rig)
            return Measured(figures: figures(byDefault, "idle guest") + figures(forced, "idle guest, fixed epochs"))
        }
    }

    private struct Cost {
        var share: Double
        var kilobytes: Double
        var epochs: Double
    }

    private static func costs(_ rig: Rig) async throws -> [Cost] {
        try await rig.protect(epochMilliseconds: 25, settle: 3)
        var costs: [Cost] = []
        for _ in 1...4 {
            let clock = ContinuousClock()
            let began = clock.now
            let before = try await rig.counters()
            try await Task.sleep(for: .seconds(seconds))
            let passed = try await rig.counters() - before
            let took = began.duration(to: clock.now).milliseconds / 1000
            costs.append(
                Cost(
                    share: passed.cpuSeconds / took * 100, kilobytes: passed.sentBytes / took / 1000,
                    epochs: passed.epochs / took))
        }
        _ = try rig.status()
        return costs
    }

    private static func figures(_ costs: [Cost], _ name: String) -> [Figure] {
        [
            Figure("\(name), CPU of one core", costs.map(\.share), "%", goal: 1),
            Figure("\(name), link", costs.map(\.kilobytes), "KB/s", goal: 20),
            Figure("\(name), checkpoints", costs.map(\.epochs), "1/s"),
        ]
    }
}
