import Foundation
import TestBed

/// A standby that was lost for a moment: its second first copy against the first.
enum ResyncBench {
    static let about =
        "first copies of a guest of 1 GiB, 400 MiB of it random, over 1 Gbit/s: without a base and onto one"

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.mebibytes = 1024
            let rig = try await Rig(bed, image, wishes)
            try rig.control.shell("dd if=/dev/urandom of=/dev/shm/junk bs=1M count=400")
            try bed.a.limitRate("repl0", megabits: 1000)
            let clock = ContinuousClock()
            var times: [Double] = []
            for round in 0...3 {
                if round > 0 {
                    try await rig.pair.agent(bed.b)?.killAndWait()
                    try await rig.pair.wait(bed.a, Rig.vm, for: "peer_lost", within: .seconds(30))
                    try await rig.pair.start(bed.b)
                }
                let began = clock.now
                try await rig.pair.protect(rig.guest)
                times.append(began.duration(to: clock.now).milliseconds)
            }
            let copies = try rig.pair.memoryCopies(bed.a, Rig.vm)
            guard let first = copies.first, copies.count == 4, copies.dropFirst().allSatisfy({ $0.present > 0 }) else {
                throw BedError("first copies without or with a base are missing: \(copies)")
            }
            for (copy, time) in zip(copies, times) { Bench.say("  \(copy), protected after \(Int(time)) ms") }
            return Measured(figures: [
                Figure(
                    "pages sent onto a base", copies.dropFirst().map { Double($0.sent) }, "pages",
                    over: [Double(first.sent)], "without", goal: 0.1),
                Figure(
                    "time to copy the memory onto a base", copies.dropFirst().map { Double($0.milliseconds) }, "ms",
                    over: [Double(first.milliseconds)], "without", goal: 0.75),
            ])
        }
    }
}
