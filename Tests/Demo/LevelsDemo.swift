import Foundation
import TestBed

/// The story that `make demo-levels` tells: one guest under load, its dial turned while it runs, and what each level survives.
struct LevelsDemo {
    struct Result: Encodable {
        var levels = 2
        var dialChanges = 0
        var lostWrites = 0
        var connectionsLostBeforeRestart = 0
        var guestErrors = 0
        /// The longest silence that a client saw in each act, by its name.
        var longestSilenceMs: [String: Double] = [:]

        var isGood: Bool {
            dialChanges == 4 && lostWrites == 0 && connectionsLostBeforeRestart == 0 && guestErrors == 0
        }
    }

    private let pair: Pair
    private let bed: Bed
    private let guest: GuestVM
    private var result = Result()

    private static func say(_ text: String) { Demo.say(text) }

    static func run() async throws -> Result {
        say("Romulus: one guest, its dial turned while it runs")
        let image = try GuestImage.build()
        return try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.name = Demo.vm
            configuration.vcpus = 1
            configuration.memoryMiB = 256
            configuration.disks = [
                try GuestDisk.create(
                    "\(bed.a.stateDirectory)/web.raw", format: .raw, mebibytes: 64, content: .random(seed: 1))
            ]
            var options = Pair.Options()
            options.arbiter = .witness
            options.silenceMilliseconds = 1000
            options.reprotectsByItself = true
            for host in bed.hosts {
                options.vms[host.name] = [
                    "  \(Demo.vm):", "    disks:", "      disk0: \(host.stateDirectory)/web.raw",
                ]
            }
            try bed.b.addTap("tap0")
            let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
            let pair = try await Pair(on: bed, options)
            var demo = LevelsDemo(pair: pair, bed: bed, guest: guest)
            try await demo.tell()
            return demo.result
        }
    }

    private mutating func tell() async throws {
        try await pair.protect(guest, ["--level", "restart"])
        Self.say("  romulus protect web --level restart: its disks are whole at both hosts, no QEMU waits")

        try await act("turn up and down") { (demo) async throws in
            try await demo.dial(.system, at: demo.bed.a)
            try await demo.dial(.restart, at: demo.bed.a)
            try await demo.dial(.system, at: demo.bed.a)
        }
        try await act("kill the host at level system") { (demo) async throws in
            try demo.bed.a.cutPower()
            try await demo.pair.wait(demo.bed.b, Demo.vm, for: "running", within: .seconds(30))
            Self.say("  host A lost its power: the guest went on at host B")
        }
        for link in ["repl0", "lan0"] { try bed.a.setLink(link, up: true) }
        try await pair.start(bed.a)
        try await pair.wait(bed.b, Demo.vm, for: "protected", within: .seconds(90))
        Self.say("  host A is back, and the standby now")
        try await act("turn down") { (demo) async throws in try await demo.dial(.restart, at: demo.bed.b) }

        try await killQEMU()
        let errors = try control.shell("dmesg | grep -c 'I/O error' || true")
        result.guestErrors = Int(errors.trimmingCharacters(in: .whitespacesAndNewlines)) ?? -1
    }

    private enum Level: String { case restart, system }

    private mutating func dial(_ level: Level, at host: BedHost) async throws {
        let began = ContinuousClock.now
        let outcome = try pair.romulus(host, ["dial", Demo.vm, level.rawValue, "--wait", "--timeout", "60"])
        guard outcome.status == 0 else { throw BedError("romulus dial: \(outcome.errors)") }
        result.dialChanges += 1
        Self.say("  romulus dial web \(level.rawValue) --wait: in force after \(Demo.milliseconds(.now - began)) ms")
    }

    private var control: GuestControl { GuestControl(client: bed.client, address: guest.configuration.address) }

    /// One act under load, judged at its end.
    private mutating func act(
        _ name: String, _ body: (inout LevelsDemo) async throws -> Void
    ) async throws {
        var plan = Verifier.Plan()
        plan.dirtying = GuestControl.Dirtying(pages: 100, periodMs: 20, workingSet: 4096, pattern: .counter)
        let verifier = try await Verifier.start(on: bed.client, guest: guest.configuration.address, plan)
        try await Task.sleep(for: .seconds(1))
        try await body(&self)
        try await verifier.waitForAnswers()
        try await Task.sleep(for: .seconds(1))
        let report = try await verifier.finish()
        result.lostWrites += report.recordsLost
        result.connectionsLostBeforeRestart += report.connectionsLost
        result.longestSilenceMs[name] = report.longestSilenceMs
        Self.say("    longest silence of a client: \(String(format: "%.0f", report.longestSilenceMs)) ms, nothing lost")
        guard report.isClean else { throw BedError("\(name): something was lost: \(report)") }
    }

    /// At level restart the guest is booted where it ran; what it had said is written is there.
    private mutating func killQEMU() async throws {
        var plan = Verifier.Plan()
        plan.redisIntervalMs = 0
        plan.ledgerIntervalMs = 5
        let verifier = try await Verifier.start(on: bed.client, guest: guest.configuration.address, plan)
        guard let before = control.boot(), let pid = try pair.status(bed.b, Demo.vm)?.pid else {
            throw BedError("the guest does not answer")
        }
        try await Task.sleep(for: .seconds(1))
        kill(pid, SIGKILL)
        let control = control
        try await eventually("the guest is up again", within: .seconds(120)) {
            control.boot().flatMap { $0 == before ? nil : $0 }
        }
        try await pair.wait(bed.b, Demo.vm, for: "protected", within: .seconds(60))
        guard let ledger = try await verifier.finish().ledger else { throw BedError("there was no ledger") }
        result.lostWrites += ledger.lost + ledger.torn + ledger.unexpected
        result.longestSilenceMs["kill QEMU at level restart"] = ledger.longestSilenceMs
        Self.say(
            "  its QEMU was killed: the guest was booted again, \(ledger.acknowledged) writes were acknowledged, \(ledger.lost) lost"
        )
    }
}
