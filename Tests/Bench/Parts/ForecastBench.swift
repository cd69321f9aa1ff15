import Foundation
import TestBed

/// What `romulus forecast` says of a guest against what protecting it costs right afterwards, under the same load.
enum ForecastBench {
    static let about = "what romulus forecast says of a guest against what its protection then costs, under four loads"

    /// A forecast is right when it is off by no more than this factor, either way.
    private static let goal = 1.25
    private static let looks = 4
    /// A guest with fewer is not told from one with none.
    private static let fewPages = 16.0
    private static let milliseconds = 20
    /// Of the link: how hard it pays to compress follows from it.
    private static let megabits = 1000

    private enum Load: String, CaseIterable {
        case idle
        case counter = "300 pages an epoch"
        case shell
        case random = "random pages"

        func start(_ control: GuestControl) throws {
            try control.dirty(GuestControl.Dirtying(pages: 0))
            try control.shell("pkill -f forecast-load || true")
            switch self {
            case .idle: break
            case .counter:
                try control.dirty(
                    GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .counter))
            case .shell:
                try control.shell(
                    "(while : forecast-load; do find /bin /lib | sort | md5sum; done >/dev/null 2>&1 </dev/null &)")
            case .random:
                try control.dirty(GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .random))
            }
        }
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            // A forecast is about epochs of the length that it names, whatever the guest does.
            var wishes = Rig.Wishes()
            wishes.epochs = .fixed(milliseconds: milliseconds)
            let rig = try await Rig(bed, image, wishes)
            var figures: [Figure] = []
            for load in Load.allCases {
                try load.start(rig.control)
                try await Task.sleep(for: .seconds(2))
                let forecast = try rig.pair.forecast(rig.guest, ["--seconds", "15", "--link-mbit", "\(megabits)"])
                try await rig.protect(
                    epochMilliseconds: milliseconds, settle: 6, ["--link-cap", "\(megabits)mbit"])
                // Before, pages travelled that the standby had no version of yet.
                let settled = try rig.status().lastEpoch?.epoch ?? 0
                var epochs: [Pair.Status.Epoch] = []
                for _ in 1...looks {
                    epochs += try rig.pair.top(bed.a, Rig.vm).epochs?.epochs.map(\.measured) ?? []
                }
                epochs.removeAll { $0.epoch <= settled }
                try await rig.unprotect()
                figures += try compare(load, forecast, epochs)
            }
            return Measured(figures: figures)
        }
    }

    private static func compare(
        _ load: Load, _ forecast: Pair.Forecast, _ epochs: [Pair.Status.Epoch]
    ) throws -> [Figure] {
        let run = median(epochs.map(\.runMs))
        guard let told = forecast.epochs.first(where: { $0.epochMs == milliseconds }) else {
            throw BedError("the forecast has no epochs of \(milliseconds) ms")
        }
        let pause = median(epochs.map(\.pauseMs))
        let pages = median(epochs.map { Double($0.dirtyPages) })
        let link = epochs.reduce(0) { $0 + Double($1.linkBytes) } / Double(max(epochs.count, 1))
        Bench.say(
            String(
                format:
                    "%@, epochs of %d ms (%.1f ms run): pause %.2f told, %.2f ms seen; pages %.0f, %.0f; link %.0f, %.0f B",
                load.rawValue, told.epochMs, run, told.pauseMs.p50, pause, told.dirtyPages.p50, pages,
                told.linkBytesPerEpoch, link))
        Bench.say("  " + forecast.advice)
        return [
            figure("pause", load, told.pauseMs.p50, pause, "ms"),
            figure("dirty pages", load, max(told.dirtyPages.p50, fewPages), max(pages, fewPages), "pages"),
            figure("link", load, told.linkBytesPerEpoch, link, "bytes"),
        ]
    }

    /// How far off it was: the larger of the two over the smaller.
    private static func figure(
        _ what: String, _ load: Load, _ told: Double, _ seen: Double, _ unit: String
    ) -> Figure {
        Figure(
            "forecast of the \(what), \(load.rawValue)", [max(told, seen)], unit, over: [min(told, seen)],
            told > seen ? "protected" : "forecast", goal: goal)
    }
}
