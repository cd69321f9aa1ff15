import Foundation
import TestBed

/// The story that `make demo` tells.
enum Demo {
    static let vm = "web"

    /// A line at once, also where standard output is a pipe.
    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    static func run() async throws -> Result {
        say("Romulus: a guest survives its host")
        say("  building the guest (Debian's kernel, busybox, redis, a few test servers) …")
        let image = try GuestImage.build()
        return try await Bed.with { bed in
            say("  two hosts, a LAN and a client are network namespaces of this machine; QEMU emulates the CPU (TCG)")
            var configuration = GuestVM.Configuration()
            configuration.name = vm
            configuration.vcpus = 2
            configuration.memoryMiB = 256
            let disk = try GuestDisk.create(
                "\(bed.a.stateDirectory)/web.raw", format: .raw, mebibytes: 64, content: .random(seed: 1))
            configuration.disks = [disk]
            let standbyDisk = "\(bed.b.stateDirectory)/web.raw"
            var options = Pair.Options()
            options.arbiter = .witness
            options.silenceMilliseconds = 1000
            options.vms["b"] = ["  \(vm):", "    disks:", "      disk0: \(standbyDisk)"]
            try bed.b.addTap("tap0")
            let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
            say("  the guest runs at host A (QEMU pid \(guest.pid)), a stock QEMU that knows nothing of Romulus")

            let pair = try await Pair(on: bed, options)
            say(
                "  an agent runs at each host, a witness on a third machine; they trust each other by certificates of a CA made a moment ago"
            )

            var plan = Verifier.Plan()
            plan.dirtying = GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .counter)
            let verifier = try await Verifier.start(on: bed.client, guest: configuration.address, plan)
            say("  load: 16 TCP echo streams, a redis ledger, a disk ledger with fsync, 300 pages dirtied per 20 ms")

            let began = ContinuousClock.now
            try await pair.protect(guest)
            say(
                "  romulus protect web --standby hostb: protected after \(milliseconds(ContinuousClock.now - began)) ms"
            )
            let last = try await watch(pair, bed, seconds: 10)

            say("  host A loses its power: its links go silent, QEMU and agent get SIGKILL; nobody helps")
            let killed = ContinuousClock.now
            try bed.a.cutPower()
            try await pair.wait(bed.b, vm, for: "running", within: .seconds(30))
            let noticed = milliseconds(ContinuousClock.now - killed)
            let running = try pair.takeOverSteps(bed.b, vm).running
            say(
                "  the guest runs at host B: \(running) ms after the link was found silent, \(noticed) ms after the cut"
            )
            for line in try pair.romulus(bed.b, ["events", vm]).output.split(separator: "\n").suffix(8) {
                say("    \(line)")
            }

            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(3))
            let report = try await verifier.finish()
            let diskEqual = try await disksAgree(verifier, bed, standbyDisk)
            say(
                "  \(report.echo.records) echo records on \(report.echo.connections) connections: \(report.bytesLost) bytes and \(report.connectionsLost) connections lost"
            )
            say(
                "  \(report.redis?.acknowledged ?? 0) redis writes and \(report.ledger?.acknowledged ?? 0) disk writes were acknowledged: \(report.recordsLost) lost"
            )
            say("  the longest silence any client saw: \(String(format: "%.0f", report.longestSilenceMs)) ms")
            guard report.isClean else { throw BedError("something was lost: \(report)") }
            return Result(
                timeToRunningMs: running, clientSilenceMs: report.longestSilenceMs, bytesLost: report.bytesLost,
                connectionsLost: report.connectionsLost, diskEqual: diskEqual, epochs: last.epoch,
                pauseMsP50: last.pauseMs?.p50 ?? 0, pauseMsP95: last.pauseMs?.p95 ?? 0)
        }
    }

    /// Shows the epochs go by.
    private static func watch(_ pair: Pair, _ bed: Bed, seconds: Int) async throws -> Pair.Status {
        for second in 1...seconds {
            try await Task.sleep(for: .seconds(1))
            guard let status = try pair.status(bed.a, vm), status.state == "protected" else {
                throw BedError("the VM is not protected any more")
            }
            let dirty =
                status.lastEpoch.map { "\($0.dirtyPages) dirty pages, \($0.linkBytes / 1024) KiB on the link" } ?? ""
            say(
                String(
                    format:
                        "    %2d s: epoch %llu, %.0f epochs/s, pause p50 %.1f p95 %.1f ms, output held p50 %.0f ms, last epoch: ",
                    second, status.epoch, status.epochsPerSecond, status.pauseMs?.p50 ?? 0,
                    status.pauseMs?.p95 ?? 0,
                    status.outputLatencyMs?.p50 ?? 0) + dirty)
            if second == seconds { return status }
        }
        throw BedError("nothing was watched")
    }

    /// The disk as the guest sees it now, and the image at host B, are the same.
    private static func disksAgree(_ verifier: Verifier, _ bed: Bed, _ path: String) async throws -> Bool {
        let inside = try verifier.control.diskDigest()
        let outside = try Child.run(["sha256sum", path]).split(separator: " ").first.map(String.init) ?? ""
        return inside == outside
    }

    static func milliseconds(_ duration: Duration) -> Int {
        Int(duration.components.seconds * 1000 + duration.components.attoseconds / 1_000_000_000_000_000)
    }
}
