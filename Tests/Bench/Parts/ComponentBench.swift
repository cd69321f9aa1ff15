import Foundation
import QEMU
import TestBed

/// Writes and reads of the guest to its disk at level `component`, where a process reads it here and writes it at both hosts.
enum ComponentBench {
    static let about =
        "disk writes and reads of 4 KiB in the guest at level component, with a mirror to qemu-nbd, without any"

    static let rounds = 3

    static func measure(_ image: GuestImage) async throws -> Measured {
        let inMemory = try await measure(image, delay: nil)
        let slow = try await measure(image, delay: 0.1)
        return Measured(
            figures: inMemory.figures(of: "a file in memory", floorOfReads: 0.7)
                + slow.figures(of: "a disk of 100 us", floorOfReads: 0.9))
    }

    private struct Samples {
        var written: [Double] = []
        var writtenByEight: [Double] = []
        var read: [Double] = []

        var last: String { "\(Int(written.last ?? 0)), eight \(Int(writtenByEight.last ?? 0))" }

        /// - Parameter round: each reads another part, which nobody has in memory where the disk is slow.
        mutating func take(_ rig: Rig, reading round: Int?) throws {
            if let round { read.append(try DiskBench.reads(rig, after: round * DiskBench.count)) }
            written.append(try DiskBench.writes(rig))
            writtenByEight.append(try DiskBench.writesOfEight(rig))
        }
    }

    private struct Outcome {
        var component = Samples()
        var mirrored = Samples()
        var alone = Samples()

        func figures(of disk: String, floorOfReads: Double) -> [Figure] {
            [
                Figure(
                    "writes, \(disk)", component.written, "1/s", over: mirrored.written, "mirror to qemu-nbd",
                    floor: 1.2),
                Figure("writes, \(disk)", component.written, "1/s", over: alone.written, "no mirror"),
                Figure(
                    "writes of eight, \(disk)", component.writtenByEight, "1/s", over: mirrored.writtenByEight,
                    "mirror to qemu-nbd", floor: 1.2),
                Figure(
                    "reads, \(disk)", component.read, "1/s", over: alone.read, "no server", floor: floorOfReads),
            ]
        }
    }

    private static func measure(_ image: GuestImage, delay: Double?) async throws -> Outcome {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.hasArbiter = true
            wishes.diskMebibytes = 96
            wishes.diskDelay = delay
            if delay != nil { wishes.driveOptions = ["cache=none"] }
            let rig = try await Rig(bed, image, wishes)
            let monitor = try QMPConnection(path: rig.guest.testMonitorPath)
            defer { monitor.close() }
            let server = try DiskBench.nbdServer(rig, mebibytes: wishes.diskMebibytes)
            defer { server.kill() }
            var outcome = Outcome()
            for round in 1...rounds {
                try outcome.alone.take(rig, reading: round)
                try await DiskBench.mirror(rig, monitor) { try outcome.mirrored.take(rig, reading: nil) }
                try await rig.protect(["--level", "component"])
                try outcome.component.take(rig, reading: round + rounds)
                _ = try rig.status()
                try await rig.unprotect()
                Bench.say(
                    "  \(delay == nil ? "in memory" : "100 us"), round \(round), writes/s: component \(outcome.component.last),"
                        + " qemu-nbd \(outcome.mirrored.last), alone \(outcome.alone.last);"
                        + " reads/s: component \(Int(outcome.component.read.last ?? 0)), alone"
                        + " \(Int(outcome.alone.read.last ?? 0))")
            }
            return outcome
        }
    }
}
