import Foundation
import QEMU
import TestBed

/// The measurements. All use the same guest image: 256 MiB, 2 vCPUs, TCG, one disk, one NIC.
enum Bench {
    static let vm = "bench"

    /// The parts of the bench, by the names that the command line takes.
    enum Part: String, CaseIterable {
        case pause, idle, scan, resume, resync, detection, forecast
    }

    static func run(_ parts: [Part]) async throws -> [Figure] {
        let image = try GuestImage.build()
        var figures: [Figure] = []
        for part in parts {
            switch part {
            case .pause: figures += try await attached(image)
            case .idle: figures += try await idle(image)
            case .scan:
                say("scans of an idle guest of 2 GiB")
                figures.append(
                    Figure("scan of idle RAM, per GiB", try await ScanBench.measure(image), "ms", goal: 0.5))
            case .resume: figures += try await resume(image)
            case .resync: figures += try await resync(image)
            case .detection: figures += try await DetectionBench.measure()
            case .forecast: figures += try await ForecastBench.measure(image)
            }
        }
        return figures
    }

    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    // MARK: - One guest, protected and not, in turns

    private static func attached(_ image: GuestImage) async throws -> [Figure] {
        try await Bed.with { bed in
            let (guest, pair) = try await make(bed, image)
            let control = GuestControl(client: bed.client, address: guest.configuration.address)
            var pauses: [Double] = []
            var floors: [Double] = []
            var answers: [Double] = []
            var limits: [Double] = []
            var spaced: [Double] = []
            var spacedLimits: [Double] = []
            for round in 1...3 {
                say("round \(round): bare stop + save + cont, then protected, about 300 dirty pages per epoch")
                try control.dirty(GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .counter))
                floors += try BareCheckpoint.measure(guest, rounds: 200)
                try await pair.protect(guest, ["--epoch-ms", "20"])
                try await Task.sleep(for: .seconds(5))
                guard let status = try pair.status(bed.a, vm), let pause = status.pauseMs else {
                    throw BedError("no pauses were recorded")
                }
                pauses.append(pause.p50)
                say(
                    "  \(status.lastEpoch?.dirtyPages ?? 0) dirty pages in the last epoch, pause p50 \(pause.p50) ms, p95 \(pause.p95) ms"
                )
                answers.append(try await answerTime(bed, guest, everyMilliseconds: 0))
                limits.append(20 + 2 * pause.p50)
                spaced.append(try await answerTime(bed, guest, everyMilliseconds: 20))
                spacedLimits.append(10 + 2 * pause.p50)
                try await unprotect(pair, bed)
            }
            return [
                Figure("pause, ~300 dirty pages", pauses, "ms", over: floors, "bare stop+save+cont", goal: 2),
                Figure(
                    "answer time, closed loop", answers, "ms", over: limits, "fixed: epoch + 2 pauses", goal: 0.7),
                Figure(
                    "answer time, 50 requests a second", spaced, "ms", over: spacedLimits,
                    "fixed: epoch / 2 + 2 pauses", goal: 0.6),
            ]
        }
    }

    static func make(
        _ bed: Bed, _ image: GuestImage, mebibytes: Int = 256
    ) async throws -> (GuestVM, Pair) {
        var configuration = GuestVM.Configuration()
        configuration.memoryMiB = mebibytes
        configuration.name = vm
        configuration.hasTestMonitor = true
        configuration.disks = [
            try GuestDisk.create("\(bed.a.stateDirectory)/bench.raw", mebibytes: 64, content: .random(seed: 3))
        ]
        var options = Pair.Options()
        options.vms["b"] = ["  \(vm):", "    disks:", "      disk0: \(bed.b.stateDirectory)/bench.raw"]
        options.logLevel = "warning"
        try bed.b.addTap("tap0")
        let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
        return (guest, try await Pair(on: bed, options))
    }

    static func unprotect(_ pair: Pair, _ bed: Bed) async throws {
        let outcome = try pair.romulus(bed.a, ["unprotect", vm])
        guard outcome.status == 0 else { throw BedError("unprotect: \(outcome.errors)") }
        try await eventually("the replica is given up", within: .seconds(30)) {
            try pair.status(bed.b, vm) == nil ? true : nil
        }
    }

    /// One client that asks every so many milliseconds, or with 0 as soon as it was answered, for four seconds: the median
    /// answer time in milliseconds.
    private static func answerTime(
        _ bed: Bed, _ guest: GuestVM, everyMilliseconds interval: Int
    ) async throws -> Double {
        let echo = try Workload<EchoReport>(
            on: bed.client,
            [
                "echo", "address=\(guest.configuration.address)", "connections=1", "interval_ms=\(interval)",
                "bytes=64", "window=1",
            ])
        try await echo.waitUntilRunning()
        try await Task.sleep(for: .seconds(4))
        return try await echo.finish().latencyP50Ms
    }

    /// A guest that does nothing, at 40 epochs a second.
    private static func idle(_ image: GuestImage) async throws -> [Figure] {
        try await Bed.with { bed in
            say("an idle guest at 40 epochs a second")
            let (guest, pair) = try await make(bed, image)
            try await pair.protect(guest, ["--epoch-ms", "25"])
            try await Task.sleep(for: .seconds(3))
            var (shares, rates) = ([Double](), [Double]())
            for _ in 1...3 {
                let (agent, before) = try agentTime(bed)
                try await Task.sleep(for: .seconds(5))
                let (_, after) = try agentTime(bed, pid: agent)
                shares.append((after - before) / 5 * 100)
                guard let status = try pair.status(bed.a, vm), status.state == "protected" else {
                    throw BedError("the idle guest is not protected")
                }
                rates.append(status.linkBytesPerSecond / 1000)
            }
            return [
                Figure("idle guest at 40/s, CPU of one core", shares, "%", goal: 3),
                Figure("idle guest at 40/s, link", rates, "KB/s", goal: 100),
            ]
        }
    }

    /// The CPU seconds that the agent of host A has used, from `/proc/PID/stat`.
    private static func agentTime(_ bed: Bed, pid known: pid_t? = nil) throws -> (pid_t, Double) {
        let agents = bed.a.processes.filter { pid in
            (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8))?.hasPrefix("romulusd") ?? false
        }
        guard let pid = known ?? agents.first else { throw BedError("no agent runs at host A") }
        let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        let ticks = (Double(fields[12]) ?? 0) + (Double(fields[13]) ?? 0)
        return (pid, ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
    }

    // MARK: - First copies

    /// A standby that was lost for a moment: its second first copy against the first, over a link of 1 Gbit/s.
    private static func resync(_ image: GuestImage) async throws -> [Figure] {
        try await Bed.with { bed in
            say("first copies of a guest of 1 GiB, 400 MiB of it random, over 1 Gbit/s: without a base, then onto one")
            let (guest, pair) = try await make(bed, image, mebibytes: 1024)
            try GuestControl(client: bed.client, address: guest.configuration.address)
                .shell("dd if=/dev/urandom of=/dev/shm/junk bs=1M count=400")
            try bed.a.limitRate("repl0", megabits: 1000)
            let clock = ContinuousClock()
            var times: [Double] = []
            for round in 0...3 {
                if round > 0 {
                    try await pair.agent(bed.b)?.killAndWait()
                    try await pair.wait(bed.a, vm, for: "peer_lost", within: .seconds(30))
                    try await pair.start(bed.b)
                }
                let began = clock.now
                try await pair.protect(guest)
                let took = began.duration(to: clock.now).components
                times.append(Double(took.seconds) * 1000 + Double(took.attoseconds) / 1e15)
            }
            let copies = try pair.memoryCopies(bed.a, vm)
            guard let first = copies.first, copies.count == 4, copies.dropFirst().allSatisfy({ $0.present > 0 }) else {
                throw BedError("first copies without or with a base are missing: \(copies)")
            }
            for (copy, time) in zip(copies, times) { say("  \(copy), protected after \(Int(time)) ms") }
            return [
                Figure(
                    "pages sent onto a base", copies.dropFirst().map { Double($0.sent) }, "pages",
                    over: [Double(first.sent)], "without", goal: 0.1),
                Figure(
                    "time to copy the memory onto a base", copies.dropFirst().map { Double($0.milliseconds) }, "ms",
                    over: [Double(first.milliseconds)], "without", goal: 0.75),
            ]
        }
    }

    // MARK: - Failovers

    private static func resume(_ image: GuestImage) async throws -> [Figure] {
        var times: [Double] = []
        var noticed: [Double] = []
        for round in 1...3 {
            say(
                "failover \(round): from the death of QEMU to the standby knowing, and from the decision to the running guest"
            )
            let (toKnowing, toRunning) = try await Bed.with { bed in
                let (guest, pair) = try await make(bed, image)
                let control = GuestControl(client: bed.client, address: guest.configuration.address)
                try control.dirty(
                    GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .counter))
                try await pair.protect(guest)
                try await Task.sleep(for: .seconds(1))
                let killed = bootTime()
                guest.process.kill()
                try await pair.wait(bed.b, vm, for: "running", within: .seconds(30))
                let knew = try pair.bootTime(ofFirst: "detected", at: bed.b, vm)
                return (Double(knew - killed) / 1e6, try pair.decisionToRunning(bed.b, vm))
            }
            noticed.append(toKnowing)
            times.append(toRunning)
        }
        return [
            Figure("dead QEMU, kill to the standby knowing", noticed, "ms", goal: 50),
            Figure("resume, decision to running", times, "ms", goal: 40),
        ]
    }

    /// CLOCK_BOOTTIME in nanoseconds, which is what the journals have.
    private static func bootTime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// What any checkpointing of a stock QEMU must at least do: stop it, save its devices, let it run on.
enum BareCheckpoint {
    /// How long each round took, in milliseconds.
    static func measure(_ guest: GuestVM, rounds: Int) throws -> [Double] {
        let monitor = try QMPConnection(path: guest.testMonitorPath)
        let capture = try DeviceStateCapture.install(monitor)
        var times: [Double] = []
        let clock = ContinuousClock()
        for _ in 1...rounds {
            try capture.rewind()
            let began = clock.now
            let ids = try monitor.send([DeviceStateCapture.stop, capture.save])
            try monitor.awaitReplies(ids)
            try monitor.awaitReply(try monitor.send(DeviceStateCapture.resume))
            let took = began.duration(to: clock.now).components
            times.append(Double(took.seconds) * 1000 + Double(took.attoseconds) / 1e15)
            _ = try monitor.takeEvents()
            usleep(20_000)
        }
        try capture.remove(monitor)
        monitor.close()
        return times
    }
}
