import Foundation
import TestBed

/// A guest that writes more and more pages that no codec makes smaller, until the link or the encoder holds it back.
enum PressureBench {
    static let about = "sustained rate of incompressible dirty pages over a link of 400 Mbit/s and over a free one"

    private static let megabits = 400
    private static let steps = [50, 100, 200, 400, 800, 1600]

    private struct Step {
        /// Pages a second that the guest tried to write, and did.
        var wanted: Double
        var written: Double
        var linkBytes: Double
        var epochs: Double
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            var (bounded, free) = ([[Step]](), [[Step]]())
            for round in 1...2 {
                try await rig.protect(epochMilliseconds: 20)
                free.append(try await ramp(rig, "free link, round \(round)", steps))
                try bed.a.limitRate("repl0", megabits: megabits)
                bounded.append(try await ramp(rig, "\(megabits) Mbit/s, round \(round)", steps.dropLast()))
                try bed.a.limitRate("repl0", megabits: nil)
                try await rig.unprotect()
            }
            let link = Double(megabits) * 1e6 / 8 / 4096
            func best(_ rounds: [[Step]]) -> [Double] { rounds.map { $0.map(\.written).max() ?? .nan } }
            return Measured(
                figures: [
                    Figure(
                        "sustained dirty pages, \(megabits) Mbit/s", best(bounded), "1/s",
                        over: bounded.map { _ in link }, "what the link carries", floor: 0.8),
                    Figure("sustained dirty pages, free link", best(free), "1/s"),
                ],
                charts: [
                    Chart(
                        id: "back-pressure", title: "Pages written by the guest against pages it wants to write",
                        kind: .line, xLabel: "wanted, pages/s", yLabel: "written, pages/s",
                        series: [series(free, "free link"), series(bounded, "\(megabits) Mbit/s")])
                ])
        }
    }

    /// One step after the other, each for some seconds. Throws when protection is lost: back-pressure must hold the guest
    /// back and never give up a checkpoint.
    private static func ramp(_ rig: Rig, _ name: String, _ steps: some Sequence<Int>) async throws -> [Step] {
        var results: [Step] = []
        for pages in steps {
            try rig.control.dirty(
                GuestControl.Dirtying(pages: pages, periodMs: 20, workingSet: 16_384, pattern: .random))
            try await Task.sleep(for: .seconds(1.5))
            let clock = ContinuousClock()
            let began = clock.now
            let (before, writtenBefore) = (try await rig.counters(), try rig.control.dirtied().pages)
            try await Task.sleep(for: .seconds(3))
            let (passed, written) = (try await rig.counters() - before, try rig.control.dirtied().pages - writtenBefore)
            let seconds = began.duration(to: clock.now).milliseconds / 1000
            _ = try rig.status()
            results.append(
                Step(
                    wanted: Double(pages) * 50, written: Double(written) / seconds,
                    linkBytes: passed.sentBytes / seconds,
                    epochs: passed.epochs / seconds))
        }
        try rig.control.dirty(GuestControl.Dirtying(pages: 0))
        let texts = results.map {
            "\(Int($0.written)) of \(Int($0.wanted)) (\(Table.number($0.linkBytes / 1e6)) MB/s, \(Table.number($0.epochs)) epochs/s)"
        }
        Bench.say("  \(name), pages/s: \(texts.joined(separator: ", "))")
        return results
    }

    private static func series(_ rounds: [[Step]], _ name: String) -> Chart.Series {
        let points = (rounds.first ?? []).indices.map { index in
            Chart.Point(x: rounds[0][index].wanted, y: median(rounds.map { $0[index].written }))
        }
        return Chart.Series(name: name, points: points)
    }
}
