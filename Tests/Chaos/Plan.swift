import TestBed

/// Which fault each run has, and at which level: of six runs two are at level `restart` and one at `component`, unless only one
/// level is wanted.
struct Plan {
    enum Level: String, CaseIterable {
        case system, restart, component
    }

    struct Run {
        var fault: Fault
        var level: Level
        var arbiter: Pair.Arbiter
        var name: String { level == .system ? fault.rawValue : "\(fault.rawValue), level \(level.rawValue)" }
    }

    private let faults: [Level: [Fault]]

    /// - Parameter words: `level=system`, `level=restart` or `level=component`, and what the faults' names are to contain.
    init(_ words: [String]) {
        let level = words.first { $0.hasPrefix("level=") }?.dropFirst(6)
        let name = words.first { !$0.hasPrefix("level=") } ?? ""
        let named = Fault.allCases.filter { name.isEmpty || $0.rawValue.contains(name) }
        var faults: [Level: [Fault]] = [:]
        for candidate in Level.allCases where level == nil || level ?? "" == candidate.rawValue {
            let chosen = named.filter { $0.isPlayed(at: candidate) }
            if !chosen.isEmpty { faults[candidate] = chosen }
        }
        self.faults = faults
    }

    var isEmpty: Bool { faults.isEmpty }

    func run(_ number: Int) -> Run {
        var (level, turn) =
            switch number % 6 {
            case 2, 5: (Level.restart, number / 3)
            case 4: (Level.component, number / 6)
            default: (Level.system, number / 6 * 3 + [0, 1, 0, 2][number % 6])
            }
        if faults.count == 1, let only = faults.keys.first { (level, turn) = (only, number) }
        let faults = faults[level] ?? []
        let place = turn % faults.count
        return Run(
            fault: faults[place], level: level,
            arbiter: (place + turn / faults.count).isMultiple(of: 2) ? .witness : .etcd)
    }
}
