import TestBed

/// Which agent is killed at which step of which turn of the dial.
struct StepsPlan {
    struct Turn: Hashable, CustomStringConvertible {
        var from: Plan.Level
        var to: Plan.Level
        var description: String { "\(from.rawValue)-\(to.rawValue)" }
    }

    /// Whose agent it is.
    enum Side: String, CaseIterable {
        case primary, standby
    }

    struct Kill: CustomStringConvertible {
        var turn: Turn
        var side: Side
        var step: StepWatch.Step
        var isAfter: Bool
        var description: String { "\(turn) \(side.rawValue) \(isAfter ? "after" : "before") \(step)" }
    }

    /// Each turn once, one after the other.
    static let round: [Plan.Level] = [.restart, .component, .system, .restart, .system, .component, .restart]

    let turns: [Turn]
    let sides: [Side]
    private let named: String
    /// Of how many parts this is which, from 0: several programs share the work.
    private let part: (index: Int, count: Int)

    /// - Parameter words: `turn=FROM-TO`, `side=primary|standby`, `step=WORDS`, `part=K/N`.
    init?(_ words: [String]) {
        func value(_ key: String) -> String? {
            words.first { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
        }
        let all = zip(Self.round, Self.round.dropFirst()).map { Turn(from: $0, to: $1) }
        turns = value("turn").map { wanted in all.filter { $0.description == wanted } } ?? all
        sides = value("side").map { wanted in Side.allCases.filter { $0.rawValue == wanted } } ?? Side.allCases
        named = value("step") ?? ""
        let numbers = (value("part") ?? "1/1").split(separator: "/").compactMap { Int($0) }
        guard !turns.isEmpty, !sides.isEmpty, numbers.count == 2, (1...max(1, numbers[1])).contains(numbers[0]) else {
            return nil
        }
        part = (numbers[0] - 1, numbers[1])
    }

    /// How many steps of that name there are in a turn depends on how long it takes; of what is done over and over, some are tried.
    private func isTried(_ step: StepWatch.Step, of count: Int) -> Bool {
        guard named.isEmpty || step.name.contains(named) else { return false }
        switch step.name {
        case "net":
            let stride = max(1, count / 12)
            return (step.occurrence - 1).isMultiple(of: stride) && step.occurrence <= stride * 12
        case "qmp xen-save-devices-state": return step.occurrence <= 2
        default: return step.occurrence <= 8
        }
    }

    /// The first step of each name comes first, so that a run that is cut short has tried as many kinds as it could.
    func kills(_ seen: [Turn: [Side: [StepWatch.Step]]], _ random: inout SeededRandom) -> [Kill] {
        var found: [(order: Int, kill: Kill)] = []
        for turn in turns {
            for side in sides {
                let steps = seen[turn]?[side] ?? []
                let counts = Dictionary(steps.map { ($0.name, 1) }, uniquingKeysWith: +)
                for step in steps where isTried(step, of: counts[step.name] ?? 0) {
                    for isAfter in [false, true] {
                        found.append((step.occurrence, Kill(turn: turn, side: side, step: step, isAfter: isAfter)))
                    }
                }
            }
        }
        let shared = found.enumerated().filter { $0.offset % part.count == part.index }.map(\.element)
        return shared.map { (order: ($0.order, random.next()), kill: $0.kill) }.sorted { $0.order < $1.order }.map(
            \.kill)
    }
}
