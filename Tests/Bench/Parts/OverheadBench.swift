import Foundation
import TestBed

/// How much longer the same work takes in a protected guest.
///
/// The guest has one vCPU: the machine of the bench is also the standby, and what that does is not the guest's overhead.
enum OverheadBench {
    static let about =
        "time of a fixed work in a protected guest at 20 and 40 epochs/s; 1 vCPU, ~300 dirty pages an epoch"

    /// Many short rounds: what else the machine does changes the time of the work by more than protection does.
    static let rounds = 12
    private static let seconds = 1.5

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.vcpus = 1
            wishes.epochs = .fixed(milliseconds: 25)
            let rig = try await Rig(bed, image, wishes)
            var figures: [Figure] = []
            for (rate, goal) in [(20, 5.0), (40, 8.0)] {
                let epoch = 1000 / rate
                try rig.control.dirty(GuestControl.Dirtying(pages: 300, periodMs: epoch, workingSet: 4096))
                let steps = try steps(rig)
                var (free, held, overheads) = ([try work(rig, steps)], [Double](), [Double]())
                for round in 1...rounds {
                    try await rig.protect(epochMilliseconds: epoch)
                    held.append(try work(rig, steps))
                    _ = try rig.status()
                    try await rig.unprotect()
                    free.append(try work(rig, steps))
                    let around = (free[round - 1] + free[round]) / 2
                    overheads.append((held[round - 1] / around - 1) * 100)
                    Bench.say("  \(rate)/s, round \(round): \(Table.number(overheads[round - 1])) %")
                }
                figures.append(Figure("overhead at \(rate) epochs/s", overheads, "%", goal: goal))
                figures.append(
                    Figure("time of the work at \(rate) epochs/s", held, "s", over: free, "unprotected"))
            }
            return Measured(figures: figures)
        }
    }

    /// How many steps take about `seconds` now.
    private static func steps(_ rig: Rig) throws -> Int {
        let probe = 30_000
        return max(probe, Int(Double(probe) * seconds / (try work(rig, probe))))
    }

    /// The seconds that so many steps take, told by a clock outside the guest: its own stands still with it. What the way
    /// to the guest and back takes is taken off.
    private static func work(_ rig: Rig, _ steps: Int) throws -> Double {
        func time(_ command: String) throws -> Double {
            let clock = ContinuousClock()
            let began = clock.now
            try rig.control.shell(command, limit: .seconds(300))
            return began.duration(to: clock.now).milliseconds / 1000
        }
        let way = median(try (0..<5).map { _ in try time(":") })
        return try time("i=0; while [ $i -lt \(steps) ]; do i=$((i+1)); done") - way
    }
}
