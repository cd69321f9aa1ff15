import Foundation
import TestBed

/// The dial of an idle guest of 1 GiB, turned while a client asks it.
enum DialBench {
    static let about =
        "the dial of an idle guest of 1 GiB: how long each turn takes, and the longest silence of a client"

    static let rounds = 3

    private enum Turn: String, CaseIterable {
        case up = "restart to system"
        case down = "system to restart"
        case toComponent = "restart to component"
        case upFromComponent = "component to system"
        case downToComponent = "system to component"

        var level: String {
            switch self {
            case .up, .upFromComponent: "system"
            case .down: "restart"
            case .toComponent, .downToComponent: "component"
            }
        }
    }

    private struct Samples {
        var took: [Turn: [Double]] = [:]
        var silence: [Turn: [Double]] = [:]
        var firstCopy: [Double] = []
        var quiet: [Double] = []
        var pause: [Double] = []
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        var samples = Samples()
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.mebibytes = 1024
            wishes.hasArbiter = true
            let rig = try await Rig(bed, image, wishes)
            for round in 1...rounds {
                let began = ContinuousClock.now
                try await rig.protect(settle: 0)
                samples.firstCopy.append(began.duration(to: .now).milliseconds)
                samples.quiet.append(try await silence(rig) {})
                samples.pause.append(try rig.status().pauseMs?.p50 ?? .nan)
                for turn in [Turn.down, .up, .downToComponent, .upFromComponent, .down, .toComponent] {
                    try await take(turn, rig, &samples)
                }
                try await rig.unprotect()
                let words = Turn.allCases.map { turn in
                    "\(turn.rawValue) \(Table.number(samples.took[turn]?.last ?? .nan))"
                        + " (silence \(Table.number(samples.silence[turn]?.last ?? .nan)))"
                }
                Bench.say(
                    "  round \(round), ms: protected at system after \(Table.number(samples.firstCopy.last ?? .nan)); "
                        + words.joined(separator: ", "))
            }
        }
        return Measured(figures: figures(samples))
    }

    private static func take(_ turn: Turn, _ rig: Rig, _ samples: inout Samples) async throws {
        var took = 0.0
        let silence = try await silence(rig) {
            let way = try time(rig, ["status", Rig.vm])
            took = try time(rig, ["dial", Rig.vm, turn.level, "--wait"]) - way
        }
        samples.took[turn, default: []].append(max(took, 0))
        samples.silence[turn, default: []].append(silence)
    }

    /// In milliseconds.
    private static func time(_ rig: Rig, _ words: [String]) throws -> Double {
        let began = ContinuousClock.now
        let outcome = try rig.pair.romulus(rig.bed.a, words)
        guard outcome.status == 0 else { throw BedError("romulus \(words.joined(separator: " ")): \(outcome.errors)") }
        return began.duration(to: .now).milliseconds
    }

    /// The longest silence of a client that asks every 2 ms, in milliseconds.
    private static func silence(_ rig: Rig, _ body: () async throws -> Void) async throws -> Double {
        let echo = try Workload<EchoReport>(
            on: rig.bed.client,
            ["echo", "address=\(rig.guest.configuration.address)", "connections=1", "interval_ms=2", "bytes=64"])
        try await echo.waitUntilRunning()
        try await Task.sleep(for: .milliseconds(500))
        try await body()
        try await Task.sleep(for: .milliseconds(500))
        let report = try await echo.finish()
        guard report.isClean else { throw BedError("the turn lost something: \(report)") }
        return report.longestSilenceMs
    }

    private static func figures(_ samples: Samples) -> [Figure] {
        func took(_ turn: Turn) -> [Double] { samples.took[turn] ?? [] }
        let pauses = samples.pause.map { 2 * $0 + 10 }
        return [
            Figure("restart to system", took(.up), "ms", over: samples.firstCopy, "protect at system", goal: 1.2),
            Figure("component to system", took(.upFromComponent), "ms"),
            Figure("restart to component", took(.toComponent), "ms"),
            Figure("system to restart", took(.down), "ms", goal: 50),
            Figure("system to component", took(.downToComponent), "ms"),
            Figure("longest silence at system, no turn", samples.quiet, "ms"),
        ]
            + Turn.allCases.map {
                Figure(
                    "longest silence, \($0.rawValue)", samples.silence[$0] ?? [], "ms", over: pauses,
                    "2 pauses + 10 ms", goal: 1)
            }
    }
}
