import Foundation
import Hypervisor
import QEMU
import TestBed

/// Writes of the guest to its disk: copied to the standby, mirrored to `qemu-nbd` without any protection, and as they are.
enum DiskBench {
    static let about = "disk writes of 4 KiB in the guest: protected, with a mirror to qemu-nbd alone, without any"

    static let rounds = 3
    static let count = 3000
    private static let target = "bench-target"

    static func measure(_ image: GuestImage) async throws -> Measured {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            let observer = try PauseObserver(rig.guest)
            let server = try nbdServer(rig)
            defer { server.kill() }
            var (ours, mirrored, alone) = ([Double](), [Double](), [Double]())
            var (writing, quiet) = (Samples(), Samples())
            for round in 1...rounds {
                alone.append(try writes(rig))
                try await mirror(rig, observer.monitor) { mirrored.append(try writes(rig)) }
                try await rig.protect(epochMilliseconds: 20)
                ours.append(try writes(rig))
                quiet.append(try observer.pauses(during: 3))
                try rig.control.shell(
                    "(while :; do dd if=/dev/zero of=/dev/vda bs=4k count=\(count) oflag=direct; done) >/dev/null 2>&1 & echo $! >/tmp/writer"
                )
                writing.append(try observer.pauses(during: 3))
                try rig.control.shell("kill $(cat /tmp/writer)")
                _ = try rig.status()
                try await rig.unprotect()
                Bench.say(
                    "  round \(round), writes/s: protected \(Int(ours[round - 1])), qemu-nbd \(Int(mirrored[round - 1])), "
                        + "alone \(Int(alone[round - 1]))")
            }
            return Measured(figures: [
                Figure("disk writes, protected", ours, "1/s", over: mirrored, "mirror to qemu-nbd", floor: 0.9),
                Figure("disk writes, protected", ours, "1/s", over: alone, "no mirror"),
                Figure(
                    "pause while the guest writes to its disk", writing, "ms", over: quiet, "while it does not",
                    goal: 1.2),
            ])
        }
    }

    /// Writes a second, each past the guest's page cache; what the way to the guest and back takes is taken off.
    static func writes(_ rig: Rig) throws -> Double {
        try perSecond(rig, "dd if=/dev/zero of=/dev/vda bs=4k count=\(count) oflag=direct 2>&1")
    }

    /// The same by eight writers at once, each in a part of its own.
    static func writesOfEight(_ rig: Rig) throws -> Double {
        try perSecond(
            rig, count: 8 * count / 4,
            "for i in 0 1 2 3 4 5 6 7; do dd if=/dev/zero of=/dev/vda bs=4k seek=$((i * 2000)) count=\(count / 4)"
                + " oflag=direct conv=notrunc & done 2>/dev/null; wait")
    }

    /// Reads a second, likewise.
    ///
    /// - Parameter skipped: so many blocks before those that are read.
    static func reads(_ rig: Rig, after skipped: Int = 0) throws -> Double {
        try perSecond(rig, "dd if=/dev/vda of=/dev/null bs=4k skip=\(skipped) count=\(count) iflag=direct 2>&1")
    }

    private static func perSecond(_ rig: Rig, count: Int = count, _ command: String) throws -> Double {
        func time(_ command: String) throws -> Double {
            let clock = ContinuousClock()
            let began = clock.now
            try rig.control.shell(command, limit: .seconds(300))
            return began.duration(to: clock.now).milliseconds / 1000
        }
        let way = median(try (0..<3).map { _ in try time(":") })
        return Double(count) / (try time(command) - way)
    }

    static func nbdServer(_ rig: Rig, mebibytes: Int = 64) throws -> Child {
        let host = rig.bed.b
        let disk = try GuestDisk.create("\(host.stateDirectory)/nbd.raw", mebibytes: mebibytes)
        return try host.spawn(
            [
                "qemu-nbd", "--persistent", "--format=raw", "--bind=\(host.replicationAddress ?? "")", "--port=10809",
                "--export-name=disk", disk.path,
            ], name: "qemu-nbd")
    }

    /// Runs `body` while every write goes to `qemu-nbd` at host B before the guest sees it complete, as our mirror does.
    static func mirror(_ rig: Rig, _ monitor: QMPConnection, _ body: () throws -> Void) async throws {
        let disk = try GuestInspector.inspect(monitor).disks[0]
        let address: JSONValue = [
            "type": "inet", "host": .string(rig.bed.b.replicationAddress ?? ""), "port": "10809",
        ]
        try monitor.execute(
            "blockdev-add", ["driver": "nbd", "node-name": .string(target), "server": address, "export": "disk"])
        try monitor.execute(
            "blockdev-mirror",
            [
                "job-id": .string(target), "device": .string(disk.node ?? disk.device), "target": .string(target),
                "sync": "full", "copy-mode": "write-blocking",
            ])
        guard try monitor.waitForEvent(timeout: .seconds(60), where: { $0.name == "BLOCK_JOB_READY" }) != nil else {
            throw BedError("the mirror to qemu-nbd did not become ready")
        }
        try body()
        try monitor.execute("block-job-cancel", ["device": .string(target), "force": true])
        try await eventually("the mirror to qemu-nbd is over", within: .seconds(20)) {
            try monitor.execute("query-block-jobs").array?.isEmpty == true ? true : nil
        }
        try monitor.execute("blockdev-del", ["node-name": .string(target)])
    }
}
