import Foundation
import TestBed

/// `make chaos`: real QEMU guests under load, one fault each at a random moment, and what the clients lost by it.
///
///     romulus-chaos [RUNS] [SEED] [WORDS]        WORDS: only faults whose name contains them
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
        /// Runs in which the new host was lost right after it had won the guest in a switchover: no other had its state.
        var lostWithOnlyHost = 0
        var seed: UInt64 = 0

        var isGood: Bool { lostWrites + connectionsLost + twoLive + downNeedlessly == 0 }

        fileprivate mutating func add(_ outcome: Outcome) {
            runs += 1
            lostWrites += outcome.lost
            connectionsLost += outcome.connectionsLost
            twoLive += outcome.live > 1 ? 1 : 0
            downNeedlessly += outcome.answers || outcome.isWithoutHost ? 0 : 1
            lostWithOnlyHost += outcome.isWithoutHost ? 1 : 0
        }
    }

    /// Of one kind of fault, in milliseconds.
    private struct Figures: CustomStringConvertible {
        private var detected: [Double] = []
        private var running: [Double] = []
        private var silence: [Double] = []

        mutating func add(_ outcome: Outcome) {
            if let value = outcome.detectedMs { detected.append(value) }
            if let value = outcome.runningMs { running.append(value) }
            silence.append(outcome.silenceMs)
        }

        var description: String {
            [detected, running, silence].map { values in
                let sorted = values.sorted()
                return sorted.isEmpty ? "-" : "\(Int(sorted[sorted.count / 2])) \(Int(sorted[sorted.count - 1]))"
            }.joined(separator: " / ")
        }
    }

    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        let numbers = words.compactMap { UInt64($0) }
        let runs = Int(numbers.first ?? 50)
        let seed = numbers.dropFirst().first ?? UInt64.random(in: 1...999_999)
        let wanted = words.first { UInt64($0) == nil } ?? ""
        let faults = Fault.allCases.filter { wanted.isEmpty || $0.rawValue.contains(wanted) }
        guard !faults.isEmpty else {
            say("there is no fault “\(wanted)”: \(Fault.allCases.map(\.rawValue).joined(separator: ", "))")
            exit(64)
        }
        var random = SeededRandom(seed)
        var tally = Tally()
        tally.seed = seed
        var figures: [Fault: Figures] = [:]
        say("Romulus under faults: \(runs) runs, seed \(seed)")
        do {
            let image = try GuestImage.build()
            for run in 0..<runs {
                let fault = faults[run % faults.count]
                let arbiter: Pair.Arbiter =
                    (run % faults.count + run / faults.count).isMultiple(of: 2) ? .witness : .etcd
                let moment = Double(random.next() % 2000) / 1000
                let outcome = try await play(fault, moment, arbiter, image)
                tally.add(outcome)
                figures[fault, default: Figures()].add(outcome)
                say(
                    "  \(run + 1): \(fault.rawValue) after \(moment) s, \(arbiter.rawValue):"
                        + " \(outcome.words), longest silence \(Int(outcome.silenceMs)) ms, lost"
                        + " \(outcome.lost)\(outcome.live > 1 ? ", TWO LIVE" : "")")
            }
        } catch {
            say("A run could not be made: \(error)")
            exit(2)
        }
        say("  milliseconds, median and worst: detected / running / longest client silence")
        for (fault, found) in figures.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            say("  \(fault.rawValue): \(found)")
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        encoder.keyEncodingStrategy = .convertToSnakeCase
        if let line = try? encoder.encode(tally) { say(String(decoding: line, as: UTF8.self)) }
        exit(tally.isGood ? 0 : 1)
    }

    private static func bootTime() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }

    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    fileprivate struct Outcome: Sendable {
        var lost = 0
        var connectionsLost = 0
        var live = 0
        var answers = true
        var silenceMs = 0.0
        var detectedMs: Double?
        var runningMs: Double?
        var isWithoutHost = false

        var words: String { answers ? "goes on" : isWithoutHost ? "lost with its only host" : "DOWN" }
    }

    private static func play(
        _ fault: Fault, _ moment: Double, _ arbiter: Pair.Arbiter, _ image: GuestImage
    ) async throws -> Outcome {
        try await Bed.with { bed in
            let stage = try await Stage.set(
                bed, image, arbiter: arbiter, moment: moment, hasFaultyDisk: fault.ofDisk != nil)
            return try await play(fault, stage)
        }
    }

    private static func play(_ fault: Fault, _ stage: Stage) async throws -> Outcome {
        let bed = stage.bed
        try await Task.sleep(for: .seconds(stage.moment))
        let began = bootTime()
        try await fault.happen(stage)
        var outcome = Outcome()
        do {
            // Clients report once a second: what they report first may be from before.
            try await Task.sleep(for: .seconds(2))
            try await stage.verifier.waitForAnswers(within: .seconds(40))
            // After seconds of silence TCP waits as long again before it tries once more.
            try await Task.sleep(for: .seconds(8))
        } catch {
            outcome.answers = false
            outcome.isWithoutHost = fault == .standbyLostInSwitchover && stage.wasGivenAway
            guard !outcome.isWithoutHost else { return outcome }
            say("    \(error)")
            for host in bed.hosts { say(host.logTail()) }
            return outcome
        }
        outcome.live = stage.live()
        let report = try await stage.verifier.finish()
        outcome.lost = report.bytesLost + report.recordsLost + report.badPages
        outcome.connectionsLost = report.connectionsLost
        outcome.silenceMs = report.longestSilenceMs
        (outcome.detectedMs, outcome.runningMs) = stage.timeline(since: began)
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
