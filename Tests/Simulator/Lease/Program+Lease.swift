import Dispatch
import Foundation
import Synchronization

/// The second world: as many schedules of the lease as of the pair.
extension Program {
    struct LeaseTally {
        var coverage = LeaseCoverage()
        var findings: [Finding] = []
        var happenings = 0
        var openings = 0
    }

    func replayLease(_ seed: UInt64) -> Bool {
        let world = LeaseWorld(seed: seed, mutant: leaseMutant, coverage: LeaseCoverage(), isTraced: true)
        print("seed \(seed): clocks at \(world.plan.rates) ppm\(world.plan.isGentle ? ", a healthy owner" : "")")
        world.run()
        guard let violation = world.verdict.violation else {
            print("seed \(seed): nothing violated in \(world.happenings) happenings")
            return true
        }
        print("seed \(seed) violates \(violation.rule): \(violation.text)")
        return false
    }

    func runLeaseSchedules() -> LeaseTally {
        let began = DispatchTime.now().uptimeNanoseconds
        let total = Mutex(LeaseTally())
        let next = Atomic<UInt64>(0)
        let (count, first) = (schedules, first)
        DispatchQueue.concurrentPerform(iterations: ProcessInfo.processInfo.activeProcessorCount) { _ in
            var tally = LeaseTally()
            while true {
                let begin = next.wrappingAdd(64, ordering: .relaxed).oldValue
                guard begin < count else { break }
                for seed in first + begin..<first + min(begin + 64, count) {
                    let world = LeaseWorld(seed: seed, mutant: nil, coverage: tally.coverage, isTraced: false)
                    world.run()
                    tally.coverage = world.coverage
                    tally.happenings += world.happenings
                    tally.openings += world.openings
                    if let violation = world.verdict.violation {
                        tally.findings.append(Finding(seed: seed, rule: violation.rule, text: violation.text))
                    }
                }
            }
            total.withLock { whole in
                whole.coverage.add(tally.coverage)
                whole.findings += tally.findings
                whole.happenings += tally.happenings
                whole.openings += tally.openings
            }
        }
        var tally = total.withLock { $0 }
        tally.findings.sort { $0.seed < $1.seed }
        for finding in tally.findings.prefix(20) {
            print("lease seed \(finding.seed) violates \(finding.rule): \(finding.text)")
            print("    replay it: .build/release/romulus-sim --lease --seed \(finding.seed)")
        }
        let seconds = (DispatchTime.now().uptimeNanoseconds - began) / 1_000_000_000
        print("\(count) lease schedules: \(tally.happenings) happenings, \(tally.openings) openings, \(seconds) s")
        return tally
    }

    func hunt(_ mutant: LeaseMutant) -> Finding? {
        hunt("\(mutant)") { seed in
            let world = LeaseWorld(seed: seed, mutant: mutant, coverage: LeaseCoverage(), isTraced: false)
            world.run()
            return world.verdict.violation
        }
    }
}
