import Foundation
import TestBed

/// The tail of the pause while all vCPUs compute and the machine has no processor to spare.
enum BusyBench {
    static let about = "tail of the pause while both vCPUs compute without end, ~300 dirty pages"

    static let rounds = 4

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            let observer = try PauseObserver(rig.guest)
            try rig.dirtySome()
            let load = try rig.control.shell(
                "for i in 1 2; do (while :; do :; done) >/dev/null 2>&1 & echo $!; done")
            Bench.say("  the guest computes in processes \(load.split(separator: "\n").joined(separator: ", "))")
            var (ours, bare) = (Samples(), Samples())
            for round in 1...rounds {
                bare.append(try Peer.bare.measure(observer, directory: bed.a.shmDirectory))
                try await rig.protect(epochMilliseconds: 20)
                ours.append(try observer.pauses(during: 8))
                _ = try rig.status()
                try await rig.unprotect()
                let shares = [0.5, 0.95, 0.99].map { Table.number(quantile(ours.rounds.last ?? [], $0)) }
                Bench.say("  round \(round): p50, p95, p99 \(shares.joined(separator: ", ")) ms")
            }
            return Measured(figures: [
                Figure("pause, busy vCPUs", ours, "ms", over: bare, Peer.bare.rawValue),
                Figure(
                    "pause p95, busy vCPUs", ours.byRound(0.95), "ms", over: ours.byRound(0.5), "its median", goal: 1.5),
                Figure(
                    "pause p99, busy vCPUs", ours.byRound(0.99), "ms", over: ours.byRound(0.5), "its median", goal: 3),
            ])
        }
    }
}
