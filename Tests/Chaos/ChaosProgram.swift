import Foundation
import TestBed

/// `make chaos`: real QEMU guests under load, one fault each at a random moment, and what the clients lost by it.
///
///     romulus-chaos [RUNS] [SEED]
@main
struct ChaosProgram {
    struct Tally: Encodable {
        var runs = 0
        /// Acknowledged redis elements and disk records that are gone, doubled or out of place; echoed bytes as well.
        var lostWrites = 0
        var connectionsLost = 0
        /// Runs that ended with two hosts that both have the guest.
        var twoLive = 0
        /// Runs in which the guest did not answer again although a safe host was there.
        var downNeedlessly = 0
        var seed: UInt64 = 0
    }

    static func main() async {
        let words = CommandLine.arguments.dropFirst().compactMap { UInt64($0) }
        let runs = Int(words.first ?? 50)
        let seed = words.dropFirst().first ?? UInt64.random(in: 1...999_999)
        var random = SeededRandom(seed)
        var tally = Tally()
        tally.seed = seed
        var silences: [Fault: [Double]] = [:]
        say("Romulus under faults: \(runs) runs, seed \(seed)")
        do {
            let image = try GuestImage.build()
            for run in 1...runs {
                let fault = Fault.allCases[(run - 1) % Fault.allCases.count]
                let moment = Double(random.next() % 2000) / 1000
                let outcome = try await play(fault, moment, image)
                tally.runs += 1
                tally.lostWrites += outcome.lost
                tally.connectionsLost += outcome.connectionsLost
                tally.twoLive += outcome.live > 1 ? 1 : 0
                tally.downNeedlessly += outcome.answers ? 0 : 1
                silences[fault, default: []].append(outcome.silenceMs)
                say(
                    "  \(run): \(fault.rawValue) after \(moment) s: \(outcome.answers ? "goes on" : "DOWN"), longest silence"
                        + " \(Int(outcome.silenceMs)) ms, lost \(outcome.lost)\(outcome.live > 1 ? ", TWO LIVE" : "")")
            }
        } catch {
            say("A run could not be made: \(error)")
            exit(2)
        }
        for (fault, values) in silences.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let sorted = values.sorted()
            say(
                "  \(fault.rawValue): longest silence p50 \(Int(sorted[sorted.count / 2])) ms, worst \(Int(sorted.last ?? 0)) ms"
            )
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        encoder.keyEncodingStrategy = .convertToSnakeCase
        if let line = try? encoder.encode(tally) { say(String(decoding: line, as: UTF8.self)) }
        let isGood = tally.lostWrites + tally.connectionsLost + tally.twoLive + tally.downNeedlessly == 0
        exit(isGood ? 0 : 1)
    }

    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    private struct Outcome: Sendable {
        var lost = 0
        var connectionsLost = 0
        var live = 0
        var answers = true
        var silenceMs = 0.0
    }

    private static func play(_ fault: Fault, _ moment: Double, _ image: GuestImage) async throws -> Outcome {
        try await Bed.with { bed in try await play(fault, moment, bed, image) }
    }

    private static func play(
        _ fault: Fault, _ moment: Double, _ bed: Bed, _ image: GuestImage
    ) async throws -> Outcome {
        let stage = try await Stage.set(bed, image, moment: moment)
        try await Task.sleep(for: .seconds(moment))
        try await fault.happen(stage)
        var outcome = Outcome()
        do {
            try await stage.verifier.waitForAnswers(within: .seconds(40))
        } catch {
            outcome.answers = false
            say("    \(error)")
            for host in bed.hosts { say(host.logTail()) }
            return outcome
        }
        // After seconds of silence TCP waits as long again before it tries once more.
        try await Task.sleep(for: .seconds(8))
        outcome.live = stage.live()
        let report = try await stage.verifier.finish()
        outcome.lost = report.bytesLost + report.recordsLost + report.badPages
        outcome.connectionsLost = report.connectionsLost
        outcome.silenceMs = report.longestSilenceMs
        if !report.isClean {
            say("    \(report)")
            for host in bed.hosts { say(host.logTail()) }
        }
        return outcome
    }
}

/// SplitMix64: the same runs for the same seed.
struct SeededRandom {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
