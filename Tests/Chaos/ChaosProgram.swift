import Foundation
import TestBed

/// `make chaos`: real QEMU guests under load, one fault each at a random moment, and what the clients lost by it.
///
///     romulus-chaos [RUNS] [SEED] [WORDS] [level=LEVEL]
///                   WORDS: only faults whose name contains them; LEVEL: only runs that begin at `system`, `component` or `restart`
///     romulus-chaos steps …   another trial: `StepsProgram`
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
        if words.first == "steps" { exit(await StepsProgram.main(Array(words.dropFirst()))) }
        let numbers = words.compactMap { UInt64($0) }
        let runs = Int(numbers.first ?? 50)
        let seed = numbers.dropFirst().first ?? UInt64.random(in: 1...999_999)
        let wanted = words.filter { UInt64($0) == nil }
        let plan = Plan(wanted)
        guard !plan.isEmpty else {
            let names = Fault.allCases.map(\.rawValue).joined(separator: ", ")
            say("there is no fault “\(wanted.joined(separator: " "))”: \(names)")
            exit(64)
        }
        var random = SeededRandom(seed)
        var tally = Tally()
        tally.seed = seed
        var figures: [String: Figures] = [:]
        say("Romulus under faults: \(runs) runs, seed \(seed)")
        do {
            let image = try GuestImage.build()
            for number in 0..<runs {
                let run = plan.run(number)
                let moment = Double(random.next() % 2000) / 1000
                let outcome = try await play(run, moment, image)
                tally.add(outcome)
                figures[run.name, default: Figures()].add(outcome)
                say(
                    "  \(number + 1): \(run.name) after \(moment) s, \(run.arbiter.rawValue):"
                        + " \(outcome.words), longest silence \(Int(outcome.silenceMs)) ms, lost"
                        + " \(outcome.lost)\(outcome.live > 1 ? ", TWO LIVE" : "")")
            }
        } catch {
            say("A run could not be made: \(error)")
            exit(2)
        }
        say("  milliseconds, median and worst: detected / running / longest client silence")
        for (name, found) in figures.sorted(by: { $0.key < $1.key }) { say("  \(name): \(found)") }
        tell(tally)
        exit(tally.isGood ? 0 : 1)
    }

    /// The last line, for programs.
    static func tell(_ tally: some Encodable) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        encoder.keyEncodingStrategy = .convertToSnakeCase
        if let line = try? encoder.encode(tally) { say(String(decoding: line, as: UTF8.self)) }
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
        var isBooted = false

        var words: String {
            if answers { return isBooted ? "was booted" : "goes on" }
            return isWithoutHost ? "lost with its only host" : "DOWN"
        }
    }

    private static func play(_ run: Plan.Run, _ moment: Double, _ image: GuestImage) async throws -> Outcome {
        try await Bed.with { bed in try await play(run.fault, Stage.set(bed, image, run, moment: moment)) }
    }

    private static func play(_ fault: Fault, _ stage: Stage) async throws -> Outcome {
        let bed = stage.bed
        try await Task.sleep(for: .seconds(stage.moment))
        let began = bootNanoseconds()
        try await fault.happen(stage)
        var outcome = Outcome()
        do {
            if stage.level != .system || fault.turnsLevel {
                outcome.isBooted = try await stage.awaitAnswer() != stage.boot
            } else {
                // Clients report once a second: what they report first may be from before.
                try await Task.sleep(for: .seconds(2))
                try await stage.verifier.waitForAnswers(within: .seconds(40))
                // After seconds of silence TCP waits as long again before it tries once more.
                try await Task.sleep(for: .seconds(8))
            }
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
        // A boot ends connections and empties the memory; what was written is there.
        outcome.lost = outcome.isBooted ? report.diskRecordsLost : report.allLost
        outcome.connectionsLost = outcome.isBooted ? 0 : report.connectionsLost
        outcome.silenceMs = report.longestSilenceMs
        (outcome.detectedMs, outcome.runningMs) = stage.timeline(since: began)
        if outcome.lost + outcome.connectionsLost > 0 || !(outcome.isBooted || report.isClean) {
            say("    \(report)")
            for host in bed.hosts { say(host.logTail()) }
        }
        return outcome
    }
}

extension Verifier.Report {
    fileprivate var allLost: Int { bytesLost + recordsLost + badPages }

    /// Durable records of the disk that are gone, torn or out of place; a disk that could not be read counts as one.
    fileprivate var diskRecordsLost: Int {
        guard let ledger else { return 1 }
        return ledger.lost + ledger.torn + ledger.unexpected + (ledger.isVerified && ledger.acknowledged > 0 ? 0 : 1)
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
