import Foundation
import QEMU
import TestBed

/// Writes and reads of the guest to its disk at level `component`, where a process reads it here and writes it at both hosts.
enum ComponentBench {
    static let about =
        "disk writes and reads of 4 KiB in the guest at level component, with a mirror to qemu-nbd, without any"

    static let rounds = 3

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            var wishes = Rig.Wishes()
            wishes.hasArbiter = true
            let rig = try await Rig(bed, image, wishes)
            let monitor = try QMPConnection(path: rig.guest.testMonitorPath)
            defer { monitor.close() }
            let server = try DiskBench.nbdServer(rig)
            defer { server.kill() }
            var (written, mirrored, alone) = ([Double](), [Double](), [Double]())
            var (read, readAlone) = ([Double](), [Double]())
            for round in 1...rounds {
                alone.append(try DiskBench.writes(rig))
                readAlone.append(try DiskBench.reads(rig))
                try await DiskBench.mirror(rig, monitor) { mirrored.append(try DiskBench.writes(rig)) }
                try await rig.protect(["--level", "component"])
                written.append(try DiskBench.writes(rig))
                read.append(try DiskBench.reads(rig))
                _ = try rig.status()
                try await rig.unprotect()
                let last = round - 1
                Bench.say(
                    "  round \(round), writes/s: component \(Int(written[last])), qemu-nbd \(Int(mirrored[last])), alone"
                        + " \(Int(alone[last])); reads/s: component \(Int(read[last])), alone \(Int(readAlone[last]))")
            }
            return Measured(figures: [
                Figure("disk writes, component", written, "1/s", over: mirrored, "mirror to qemu-nbd", floor: 1.2),
                Figure("disk writes, component", written, "1/s", over: alone, "no mirror"),
                Figure("disk reads, component", read, "1/s", over: readAlone, "no server", floor: 0.7),
            ])
        }
    }
}
