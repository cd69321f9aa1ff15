import Dispatch
import Foundation
import Synchronization

/// The command line: one seed with its trace, or scenarios, many seeds and then the mutants.
@main struct Program {
    var seed: UInt64?
    var mutant: Mutant?
    var leaseMutant: LeaseMutant?
    /// A seed is one of the lease's world.
    var isLease = false
    var schedules: UInt64 = 100_000
    var first: UInt64 = 1
    var scenarios: String?
    var showsCells = false

    /// Seeds within which every mutant has to be caught.
    static let mutantSeedsMax: UInt64 = 100_000
    /// Seeds that are run twice, to show that a run depends on nothing else.
    static let repeatedSeeds: UInt64 = 200
    /// Fewer schedules than this need not visit every cell of the tables.
    static let coveringSchedules: UInt64 = 100_000

    static func main() {
        var program = Program()
        guard program.read(CommandLine.arguments.dropFirst()) else {
            print(
                """
                romulus-sim [--schedules N] [--first SEED] [--scenarios FOLDER] [--cells]
                            runs the scenarios, N seeds from SEED on in each of the two worlds, and the mutants
                romulus-sim --seed SEED [--lease] [--mutant NAME]   replays one seed with its trace
                romulus-sim --mutant NAME                   looks for a seed that catches the mutant
                """)
            exit(64)
        }
        exit(program.run() ? 0 : 1)
    }

    private mutating func read(_ arguments: ArraySlice<String>) -> Bool {
        var rest = arguments
        while let name = rest.popFirst() {
            if name == "--cells" || name == "--lease" {
                if name == "--cells" { showsCells = true } else { isLease = true }
                continue
            }
            guard let value = rest.popFirst() else { return false }
            switch (name, UInt64(value)) {
            case ("--seed", let number?): seed = number
            case ("--schedules", let number?): schedules = number
            case ("--first", let number?): first = number
            case ("--scenarios", _): scenarios = value
            case ("--mutant", _):
                mutant = Mutant.allCases.first { "\($0)" == value }
                leaseMutant = LeaseMutant.allCases.first { "\($0)" == value }
                isLease = isLease || leaseMutant != nil
                if mutant == nil, leaseMutant == nil { return false }
            default: return false
            }
        }
        return true
    }

    private func run() -> Bool {
        if let seed { return isLease ? replayLease(seed) : replay(seed) }
        if let mutant { return hunt(mutant) != nil }
        if let leaseMutant { return hunt(leaseMutant) != nil }
        return runEverything()
    }

    private func replay(_ seed: UInt64) -> Bool {
        let world = World(seed: seed, mutant: mutant, coverage: Coverage(), isTraced: true)
        print("seed \(seed): \(world.plan.rule), a checkpoint each \(world.plan.epoch) ms")
        world.run()
        guard let violation = world.verdict.violation else {
            print("seed \(seed): nothing violated in \(world.happenings) happenings")
            return true
        }
        print("seed \(seed) violates \(violation.rule): \(violation.text)")
        return false
    }

    // MARK: - Everything

    struct Finding {
        var seed: UInt64
        var rule: String
        var text: String
    }

    struct Tally {
        var coverage = Coverage()
        var findings: [Finding] = []
        var happenings = 0
        var packets = 0
    }

    private func runEverything() -> Bool {
        let began = DispatchTime.now().uptimeNanoseconds
        var findings = runScenarios()
        let tally = runSchedules()
        findings += tally.findings.sorted { $0.seed < $1.seed }
        for finding in findings.prefix(20) {
            print("seed \(finding.seed) violates \(finding.rule): \(finding.text)")
            print("    replay it: make sim SEED=\(finding.seed)")
        }
        let seconds = (DispatchTime.now().uptimeNanoseconds - began) / 1_000_000_000
        print("\(schedules) schedules: \(tally.happenings) happenings, \(tally.packets) packets seen, \(seconds) s")
        let lease = runLeaseSchedules()
        findings += lease.findings
        let isCovered = judge(
            (tally.coverage.cells + lease.coverage.visited).filter { $0.count > 0 },
            of: Tables.cells.union(LeaseCoverage.cells))
        let isRepeatable = repeatSome()
        let caught =
            Mutant.allCases.filter { hunt($0) != nil }.count + LeaseMutant.allCases.filter { hunt($0) != nil }.count
        let mutants = Mutant.allCases.count + LeaseMutant.allCases.count
        print(
            "{\"schedules\":\(2 * schedules),\"violations\":\(findings.count),\"mutants\":\(mutants),"
                + "\"mutants_caught\":\(caught)}")
        return findings.isEmpty && isCovered && isRepeatable && caught == mutants
    }

    /// Seeds that once showed a defect, from lines `SEED what it showed`.
    private func runScenarios() -> [Finding] {
        guard let scenarios else { return [] }
        var findings: [Finding] = []
        var count = 0
        for name in ((try? FileManager.default.contentsOfDirectory(atPath: scenarios)) ?? []).sorted() {
            guard name.hasSuffix(".txt"),
                let text = try? String(contentsOfFile: "\(scenarios)/\(name)", encoding: .utf8),
                let seed = UInt64(text.prefix { $0.isNumber })
            else { continue }
            let world = World(seed: seed, mutant: nil, coverage: Coverage(), isTraced: false)
            world.run()
            count += 1
            if let violation = world.verdict.violation {
                findings.append(Finding(seed: seed, rule: violation.rule, text: "\(violation.text) (\(name))"))
            }
        }
        print("\(count) scenarios")
        return findings
    }

    private func runSchedules() -> Tally {
        let total = Mutex(Tally())
        let next = Atomic<UInt64>(0)
        let (count, first) = (schedules, first)
        DispatchQueue.concurrentPerform(iterations: ProcessInfo.processInfo.activeProcessorCount) { _ in
            var tally = Tally()
            while true {
                let begin = next.wrappingAdd(64, ordering: .relaxed).oldValue
                guard begin < count else { break }
                for seed in first + begin..<first + min(begin + 64, count) {
                    let world = World(seed: seed, mutant: nil, coverage: tally.coverage, isTraced: false)
                    world.run()
                    tally.coverage = world.coverage
                    tally.happenings += world.happenings
                    tally.packets += world.clients.packets
                    if let violation = world.verdict.violation {
                        tally.findings.append(Finding(seed: seed, rule: violation.rule, text: violation.text))
                    }
                }
            }
            total.withLock { whole in
                whole.coverage.add(tally.coverage)
                whole.findings += tally.findings
                whole.happenings += tally.happenings
                whole.packets += tally.packets
            }
        }
        return total.withLock { $0 }
    }

    /// Every cell of the tables was visited, and no other.
    private func judge(_ visited: [(name: String, count: Int)], of cells: Set<String>) -> Bool {
        if showsCells { for cell in visited { print("    \(cell.name) \(cell.count)") } }
        let names = Set(visited.map(\.name))
        let missing = cells.subtracting(names).sorted()
        let unknown = names.subtracting(cells).sorted()
        let rarest = visited.filter { cells.contains($0.name) }.sorted { $0.count < $1.count }.prefix(4)
        print(
            "tables: \(cells.count - missing.count) of \(cells.count) cells visited; rarest: "
                + rarest.map { "\($0.name) \($0.count)" }.joined(separator: ", "))
        for name in unknown { print("    “\(name)” had an effect and does not stand in the tables") }
        guard schedules >= Self.coveringSchedules else { return unknown.isEmpty }
        for name in missing { print("    “\(name)” stands in the tables and was never visited") }
        return unknown.isEmpty && missing.isEmpty
    }

    /// The same seed gives the same run.
    private func repeatSome() -> Bool {
        for seed in first..<first + min(Self.repeatedSeeds, schedules) {
            let digests = (0..<2).map { _ in
                let world = World(seed: seed, mutant: nil, coverage: Coverage(), isTraced: false)
                world.run()
                let lease = LeaseWorld(seed: seed, mutant: nil, coverage: LeaseCoverage(), isTraced: false)
                lease.run()
                return "\(world.happenings) \(world.now) \(world.random.next()) "
                    + "\(lease.happenings) \(lease.now) \(lease.random.next())"
            }
            if digests[0] != digests[1] {
                print("seed \(seed) does not give the same run twice: \(digests[0]), then \(digests[1])")
                return false
            }
        }
        return true
    }

    private func hunt(_ mutant: Mutant) -> Finding? {
        hunt("\(mutant)") { seed in
            let world = World(seed: seed, mutant: mutant, coverage: Coverage(), isTraced: false)
            world.run()
            return world.verdict.violation
        }
    }

    /// Looks for the first seed that catches the mutant.
    func hunt(_ mutant: String, in run: @Sendable (UInt64) -> Verdict.Violation?) -> Finding? {
        let found = Mutex<Finding?>(nil)
        let next = Atomic<UInt64>(0)
        let first = first
        DispatchQueue.concurrentPerform(iterations: ProcessInfo.processInfo.activeProcessorCount) { _ in
            while found.withLock({ $0 == nil }) {
                let seed = first + next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard seed < first + Self.mutantSeedsMax else { break }
                guard let violation = run(seed) else { continue }
                found.withLock { known in
                    if (known?.seed ?? .max) > seed {
                        known = Finding(seed: seed, rule: violation.rule, text: violation.text)
                    }
                }
            }
        }
        let finding = found.withLock { $0 }
        let what =
            finding.map { "caught by \($0.rule), seed \($0.seed)" } ?? "NOT CAUGHT in \(Self.mutantSeedsMax) seeds"
        print("mutant \(mutant): \(what)")
        return finding
    }
}
