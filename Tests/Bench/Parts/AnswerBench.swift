import Foundation
import TestBed

/// How long a client waits for its answer: with epochs that end on output, with fixed ones as in Remus, and unprotected.
enum AnswerBench {
    static let about =
        "answer time of a guest with ~300 dirty pages in 20 ms: epochs that end on output, fixed ones of 20 ms, unprotected"

    static let rounds = 3

    private enum Mode: String, CaseIterable {
        case fixed = "fixed 20 ms"
        case onOutput = "on output"
        case unprotected
    }

    private enum Client: String, CaseIterable {
        case thinking = "closed loop, 10 ms of thinking"
        case eager = "closed loop, no thinking"
        case open = "open loop, 100/s"

        var mode: EchoProbe.Mode {
            switch self {
            case .thinking: .closed(thinkMilliseconds: 10)
            case .eager: .closed(thinkMilliseconds: 0)
            case .open: .open(perSecond: 100)
            }
        }
    }

    private struct Key: Hashable {
        var mode: Mode
        var client: Client
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            try rig.dirtySome()
            var times: [Key: Samples] = [:]
            for round in 1...rounds {
                for mode in Mode.allCases {
                    if mode != .unprotected {
                        try await rig.setEpochs(mode == .fixed ? .fixed(milliseconds: 20) : .onOutput)
                        try await rig.protect(epochMilliseconds: 20)
                    }
                    for client in Client.allCases {
                        let measured = try EchoProbe.answerTimes(rig, client.mode, seconds: 4)
                        times[Key(mode: mode, client: client), default: Samples()].append(measured)
                    }
                    if mode != .unprotected {
                        _ = try rig.status()
                        try await rig.unprotect()
                    }
                    let medians = Client.allCases.map { client in
                        Table.number(times[Key(mode: mode, client: client)]?.medians.last ?? .nan)
                    }
                    Bench.say("  round \(round), \(mode.rawValue): medians \(medians.joined(separator: ", ")) ms")
                }
            }
            return Measured(figures: figures(times), charts: charts(times))
        }
    }

    private static func figures(_ times: [Key: Samples]) -> [Figure] {
        func samples(_ mode: Mode, _ client: Client) -> Samples { times[Key(mode: mode, client: client)] ?? Samples() }
        var figures = [
            Figure("answer, \(Client.thinking.rawValue)", samples(.onOutput, .thinking), "ms", goal: 3),
            Figure(
                "answer p99, \(Client.thinking.rawValue)", samples(.onOutput, .thinking).byRound(0.99), "ms", goal: 8),
        ]
        for client in Client.allCases {
            figures.append(
                Figure(
                    "answer, \(client.rawValue)", samples(.onOutput, client), "ms", over: samples(.fixed, client),
                    Mode.fixed.rawValue, goal: client == .thinking ? 0.15 : nil))
        }
        for client in Client.allCases {
            figures.append(
                Figure(
                    "answer, \(client.rawValue)", samples(.onOutput, client), "ms", over: samples(.unprotected, client),
                    Mode.unprotected.rawValue))
        }
        return figures
    }

    private static func charts(_ times: [Key: Samples]) -> [Chart] {
        let bars = Client.allCases.flatMap { client in
            Mode.allCases.map { mode in
                ("\(client.rawValue): \(mode.rawValue)", times[Key(mode: mode, client: client)] ?? Samples())
            }
        }
        return [
            Chart.bars("answer-time", "Answer time, median", yLabel: "ms", isLogarithmic: true, bars)
        ]
    }
}
