import Foundation
import TestBed

/// How much one TCP connection carries out of a protected guest and into it.
enum ThroughputBench {
    static let about = "one TCP connection in bulk, out of the guest and into it, protected and unprotected"

    static let rounds = 3

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            // Linux bounds the window of a connection by the memory of the machine: below 768 MiB it is less than usual.
            var wishes = Rig.Wishes()
            wishes.mebibytes = 1024
            let rig = try await Rig(bed, image, wishes)
            var (free, held) = ([BulkProbe.Direction: Samples](), [BulkProbe.Direction: Samples]())
            for round in 1...rounds {
                for direction in BulkProbe.Direction.allCases {
                    free[direction, default: Samples()].append(try BulkProbe.rates(rig, direction, seconds: 4))
                }
                try await rig.protect(epochMilliseconds: 20)
                for direction in BulkProbe.Direction.allCases {
                    held[direction, default: Samples()].append(try BulkProbe.rates(rig, direction, seconds: 5))
                }
                _ = try rig.status()
                try await rig.unprotect()
                let rates = BulkProbe.Direction.allCases.map { direction in
                    "\(direction.rawValue) \(Table.number(held[direction]?.medians.last ?? .nan)) "
                        + "of \(Table.number(free[direction]?.medians.last ?? .nan))"
                }
                Bench.say("  round \(round), MB/s: \(rates.joined(separator: ", "))")
            }
            return Measured(
                figures: BulkProbe.Direction.allCases.map { direction in
                    Figure(
                        "TCP \(direction == .out ? "out of" : "into") the guest", held[direction] ?? Samples(), "MB/s",
                        over: free[direction], "unprotected", floor: 0.7)
                })
        }
    }
}
