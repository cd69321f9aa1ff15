import Foundation
import TestBed

/// What it costs that pages are copied again once disks are drained, which `cache=none` asks for: against an agent that forgets it.
enum PinsBench {
    static let about =
        "pause with some 300 dirty pages and a disk with cache=none, beside an agent that does not mind reads in flight"

    static let rounds = 6

    static func measure(_ image: GuestImage) async throws -> Measured {
        var (minding, forgetting): ([Double], [Double]) = ([], [])
        for round in 1...rounds {
            forgetting.append(try await pause(image, fault: "forget-pins"))
            minding.append(try await pause(image, fault: nil))
            Bench.say(
                "  round \(round), ms: minding \(Table.number(minding[round - 1])), forgetting"
                    + " \(Table.number(forgetting[round - 1]))")
        }
        return Measured(figures: [
            Figure("pause, cache=none", minding, "ms", over: forgetting, "forgetting", goal: 1.1)
        ])
    }

    private static func pause(_ image: GuestImage, fault: String?) async throws -> Double {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.driveOptions = ["cache=none", "aio=native"]
            wishes.fault = fault
            let rig = try await Rig(bed, image, wishes)
            try rig.dirtySome()
            try await rig.protect(settle: 4)
            guard let pause = try rig.status().pauseMs else { throw BedError("no pause was measured") }
            return pause.p50
        }
    }
}
