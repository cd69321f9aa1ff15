import Foundation
import TestBed

/// The pause against how much the guest wrote, for memory that only QEMU has and for memory in a shared file.
enum PauseBench {
    static let about = "pause against dirty pages (0 to 30,000 per epoch), private and shared memory"

    static let rounds = 3
    /// Pages per epoch, and epochs long enough for an emulated guest to write them.
    private static let steps: [(epochMilliseconds: Int, pages: [Int])] = [
        (25, [0, 300, 1000, 3000]), (100, [10_000]), (250, [30_000]),
    ]

    /// A point of the sweep: pages found dirty per checkpoint, and pauses in milliseconds.
    private struct Step {
        var wanted: Int
        var pages: Double
        var pauses: [Double]
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        let `private` = try await sweep(image, isShared: false)
        let shared = try await sweep(image, isShared: true)
        return Measured(
            figures: figures(`private`, "private memory", goal: 0.8) + figures(shared, "shared memory", goal: 0.5),
            charts: [
                Chart(
                    id: "pause-of-pages", title: "Pause against dirty pages", kind: .line,
                    xLabel: "dirty pages per checkpoint", yLabel: "pause, ms",
                    series: [series(`private`, "private memory"), series(shared, "shared memory")])
            ])
    }

    private static func sweep(_ image: GuestImage, isShared: Bool) async throws -> [[Step]] {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.isShared = isShared
            wishes.epochs = .fixed(milliseconds: 25)
            let rig = try await Rig(bed, image, wishes)
            let observer = try PauseObserver(rig.guest)
            var rounds: [[Step]] = []
            for round in 1...Self.rounds {
                var steps: [Step] = []
                for (epoch, pages) in Self.steps {
                    try await rig.protect(epochMilliseconds: epoch, settle: 0)
                    for pages in pages { steps.append(try await step(rig, observer, pages, epoch)) }
                    try rig.control.dirty(GuestControl.Dirtying(pages: 0))
                    try await rig.unprotect()
                }
                rounds.append(steps)
                let points = steps.map { "\(Int($0.pages)): \(Table.number(median($0.pauses)))" }
                Bench.say(
                    "  \(isShared ? "shared" : "private"), round \(round), pages: ms \(points.joined(separator: ", "))")
            }
            return rounds
        }
    }

    private static func step(
        _ rig: Rig, _ observer: PauseObserver, _ pages: Int, _ epochMilliseconds: Int
    ) async throws -> Step {
        try rig.control.dirty(
            GuestControl.Dirtying(
                pages: pages, periodMs: epochMilliseconds, workingSet: max(4096, pages), pattern: .counter))
        try await Task.sleep(for: .milliseconds(1000 + 2 * epochMilliseconds))
        let before = try await rig.counters()
        let pauses = try observer.pauses(during: epochMilliseconds < 100 ? 3 : 5)
        let passed = try await rig.counters() - before
        _ = try rig.status()
        return Step(wanted: pages, pages: passed.dirtyPages / passed.epochs, pauses: pauses)
    }

    private static func figures(_ rounds: [[Step]], _ memory: String, goal: Double) -> [Figure] {
        let slopes = rounds.map { steps in slope(steps.map { ($0.pages, median($0.pauses) * 1000) }) }
        let steps = (rounds.first ?? []).indices.map { index in
            let name = "pause, \(rounds[0][index].wanted) pages an epoch, \(memory)"
            return Figure(name, Samples(rounds.map { $0[index].pauses }), "ms")
        }
        return [Figure("slope, \(memory)", slopes, "us/page", goal: goal)] + steps
    }

    /// Of the line through the points with the least squares.
    private static func slope(_ points: [(x: Double, y: Double)]) -> Double {
        let count = Double(points.count)
        let meanX = points.map(\.x).reduce(0, +) / count
        let meanY = points.map(\.y).reduce(0, +) / count
        let covariance = points.map { ($0.x - meanX) * ($0.y - meanY) }.reduce(0, +)
        return covariance / points.map { ($0.x - meanX) * ($0.x - meanX) }.reduce(0, +)
    }

    private static func series(_ rounds: [[Step]], _ name: String) -> Chart.Series {
        let points = (rounds.first ?? []).indices.map { index in
            let steps = rounds.map { $0[index] }
            let samples = Samples(steps.map(\.pauses))
            return Chart.Point(
                x: median(steps.map(\.pages)), y: samples.median, low: samples.medians.min(),
                high: samples.medians.max())
        }
        return Chart.Series(name: name, points: points)
    }
}
