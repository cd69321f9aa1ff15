import Foundation
import TestBed

/// What a client notices while a guest becomes protected, and protected again, against the size of its disk.
enum ReprotectBench {
    static let about =
        "longest silence of a client during first protection and re-protection, with disks of 1, 4 and 16 GiB that the"
        + " standby has already, and how fast the standby reads them, beside sha256sum"

    static let gibibytes = [1, 4, 16]
    private static let rounds = 3

    private struct Size {
        var silences: [Double] = []
        var pauses: [Double] = []
        /// Of the standby, per round.
        var reading: [Double] = []
        /// Of `sha256sum`, once.
        var hashing: [Double] = []
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        var figures: [Figure] = []
        var smallest: [Double] = []
        for size in gibibytes {
            let seen = try await measure(image, gibibytes: size)
            let pause = quantile(seen.pauses, 0.5)
            figures.append(
                Figure(
                    "longest silence, disk of \(size) GiB", seen.silences, "ms", goal: 3 * pause + 20))
            if size == gibibytes[0] {
                smallest = seen.silences
            } else {
                figures.append(
                    Figure(
                        "longest silence, disk of \(size) GiB", seen.silences, "ms", over: smallest,
                        "\(gibibytes[0]) GiB", goal: 1.3))
            }
            figures.append(
                Figure(
                    "time to read a disk of \(size) GiB", seen.reading, "ms", over: seen.hashing, "sha256sum",
                    goal: 1.25))
        }
        return Measured(figures: figures)
    }

    private static func measure(_ image: GuestImage, gibibytes: Int) async throws -> Size {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.diskMebibytes = gibibytes << 10
            let rig = try await Rig(bed, image, wishes)
            let copy = "\(bed.b.stateDirectory)/bench.raw"
            try Child.run(["cp", "\(bed.a.stateDirectory)/bench.raw", copy], limit: .seconds(600))
            try rig.dirtySome()
            let clock = ContinuousClock()
            var size = Size()
            let began = clock.now
            try Child.run(["sha256sum", copy], limit: .seconds(600))
            size.hashing.append(began.duration(to: clock.now).milliseconds)
            for round in 0..<rounds {
                if round > 0 {
                    try await rig.pair.agent(bed.b)?.killAndWait()
                    try await rig.pair.wait(bed.a, Rig.vm, for: "peer_lost", within: .seconds(30))
                    try await rig.pair.start(bed.b)
                }
                let echo = try Workload<EchoReport>(
                    on: bed.client,
                    [
                        "echo", "address=\(rig.guest.configuration.address)", "connections=1", "interval_ms=10",
                        "bytes=64",
                    ])
                try await echo.waitUntilRunning()
                try await rig.pair.protect(rig.guest, within: .seconds(600))
                size.silences.append(try await echo.finish().longestSilenceMs)
                try await Task.sleep(for: .seconds(1))
                size.pauses.append(try rig.status().pauseMs?.p50 ?? .nan)
            }
            size.reading = try rig.pair.diskReads(bed.a, Rig.vm).map(Double.init)
            Bench.say(
                "  \(gibibytes) GiB, ms: silences \(size.silences.map { Int($0) }), read in \(size.reading.map { Int($0) }),"
                    + " sha256sum \(size.hashing.map { Int($0) })")
            return size
        }
    }
}
