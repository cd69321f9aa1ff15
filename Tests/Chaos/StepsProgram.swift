import Foundation
import TestBed

/// `make chaos-steps`: an agent is killed at each step of each turn of the dial, before it and after it, one after the other.
///
///     romulus-chaos steps [SEED] [turn=FROM-TO] [side=primary|standby] [step=WORDS] [part=K/N] [minutes=N]
struct StepsProgram {
    private struct Tally: Encodable {
        /// That were made in the turns which nothing befell.
        var steps = 0
        var kills = 0
        /// The agent did not come to that step in this turn: nothing befell it.
        var missed = 0
        /// Kills that are still to be made, when time was up.
        var left = 0
        /// Of the kills, how often the guest was booted, which its level allowed.
        var boots = 0
        var lostWrites = 0
        var connectionsLost = 0
        var twoLive = 0
        /// The guest did not come to be protected again, or did not answer.
        var downNeedlessly = 0
        /// Booted although its level was `system`, or although its own agent lived.
        var memoriesLost = 0
        /// A level that was neither the old one nor the new one; a dial that could not be turned afterwards.
        var wrongLevels = 0
        var turnsRefused = 0
        /// Processes, gates that the level has no use for, or that it lacks.
        var leftovers = 0
        var seed: UInt64 = 0

        var isGood: Bool {
            kills > 0 && lostWrites + connectionsLost + twoLive + downNeedlessly + memoriesLost == 0
                && wrongLevels + turnsRefused + leftovers == 0
        }

        mutating func add(_ outcome: StepsStage.Outcome) {
            kills += outcome.isKilled ? 1 : 0
            missed += outcome.isKilled ? 0 : 1
            boots += outcome.isBooted && !outcome.wasMemoryLost ? 1 : 0
            lostWrites += outcome.lost
            connectionsLost += outcome.connectionsLost
            twoLive += outcome.live > 1 ? 1 : 0
            memoriesLost += outcome.wasMemoryLost ? 1 : 0
            wrongLevels += outcome.wrongLevel == nil ? 0 : 1
            turnsRefused += outcome.refusal == nil ? 0 : 1
            leftovers += outcome.leftover == nil ? 0 : 1
        }
    }

    private let plan: StepsPlan
    private var random: SeededRandom
    private var tally = Tally()
    private let end: ContinuousClock.Instant
    private var left: [StepsPlan.Kill] = []
    private var made = 0

    private init?(_ words: [String]) {
        guard let plan = StepsPlan(words) else { return nil }
        self.plan = plan
        let seed = words.compactMap { UInt64($0) }.first ?? UInt64.random(in: 1...999_999)
        random = SeededRandom(seed)
        tally.seed = seed
        let minutes = words.first { $0.hasPrefix("minutes=") }.flatMap { Int($0.dropFirst(8)) }
        end = ContinuousClock.now + .seconds(60 * (minutes ?? 100_000))
    }

    static func main(_ words: [String]) async -> Int32 {
        guard var program = StepsProgram(words) else {
            ChaosProgram.say("there are no such turns; say turn=component-system, side=standby, part=1/3")
            return 64
        }
        let code: Int32
        do {
            try await program.run()
            code = program.tally.isGood ? 0 : 1
        } catch {
            ChaosProgram.say("A run could not be made: \(error)")
            code = 2
        }
        program.tally.left = program.left.count
        ChaosProgram.tell(program.tally)
        return code
    }

    private mutating func run() async throws {
        let image = try GuestImage.build()
        ChaosProgram.say("An agent is killed at each step of a turn, seed \(tally.seed)")
        var seen: [StepsPlan.Turn: [StepsPlan.Side: [StepWatch.Step]]]?
        repeat {
            // A guest that something happened to is left for another one.
            let bed = try Bed()
            defer { bed.tearDown() }
            let stage = try await StepsStage(bed, image)
            if seen == nil {
                let found = try await record(stage)
                left = plan.kills(found, &random)
                tally.steps = found.values.flatMap(\.values).map(\.count).reduce(0, +)
                ChaosProgram.say("  \(tally.steps) steps, \(left.count) kills")
                seen = found
            }
            while !isOver, await isStillGood(stage) {}
        } while !isOver
    }

    private var isOver: Bool { left.isEmpty || ContinuousClock.now >= end }

    /// The steps of each turn of the plan, of each side.
    private func record(_ stage: StepsStage) async throws -> [StepsPlan.Turn: [StepsPlan.Side: [StepWatch.Step]]] {
        var found: [StepsPlan.Turn: [StepsPlan.Side: [StepWatch.Step]]] = [:]
        for side in plan.sides {
            for level in StepsPlan.round.dropFirst() {
                let turn = StepsPlan.Turn(from: stage.level, to: level)
                guard plan.turns.contains(turn) else {
                    if let refusal = try await stage.turn(to: level) { throw BedError(refusal) }
                    continue
                }
                let steps = try await stage.steps(turningTo: level, of: side)
                found[turn, default: [:]][side] = steps
                let names = Dictionary(steps.map { ($0.name, 1) }, uniquingKeysWith: +)
                let words = names.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
                ChaosProgram.say("  \(turn), \(side.rawValue): \(words)")
            }
        }
        return found
    }

    /// The next kill; false when the guest is not to be used any more.
    private mutating func isStillGood(_ stage: StepsStage) async -> Bool {
        let next = left.firstIndex { $0.turn.from == stage.level } ?? 0
        let kill = left[next]
        if stage.level != kill.turn.from {
            do {
                if let refusal = try await stage.turn(to: kill.turn.from) { throw BedError(refusal) }
            } catch {
                ChaosProgram.say("    on the way to \(kill.turn.from.rawValue): \(error)\n\(stage.words())")
                tally.turnsRefused += 1
                return false
            }
        }
        left.remove(at: next)
        made += 1
        do {
            let outcome = try await stage.play(kill, &random)
            tally.add(outcome)
            let words = outcome.isKilled ? outcome.isBooted ? "booted" : "goes on" : "missed"
            ChaosProgram.say("  \(made): \(kill): \(words)")
            guard !outcome.isGood else { return true }
            ChaosProgram.say("    WRONG: \(outcome)\n\(stage.words())")
        } catch {
            tally.downNeedlessly += 1
            ChaosProgram.say("  \(made): \(kill): DOWN: \(error)\n\(stage.words())")
        }
        return false
    }
}
