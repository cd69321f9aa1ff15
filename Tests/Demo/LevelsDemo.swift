import Foundation
import TestBed

/// The story that `make demo-levels` tells: one guest under load, its dial turned while it runs, and what each level survives.
struct LevelsDemo {
    struct Result: Encodable {
        var levels = 3
        var dialChanges = 0
        var diskFaults = 0
        var nicFaults = 0
        var lostWrites = 0
        var connectionsLostBeforeRestart = 0
        var guestErrors = 0
        /// The longest silence that a client saw in each act, by its name.
        var longestSilenceMs: [String: Double] = [:]

        var isGood: Bool {
            dialChanges == 4 && diskFaults == 1 && nicFaults == 1 && lostWrites == 0
                && connectionsLostBeforeRestart == 0 && guestErrors == 0
        }
    }

    private let pair: Pair
    private let bed: Bed
    private let guest: GuestVM
    private let storage: SlowDisk
    private var result = Result()

    private static func say(_ text: String) { Demo.say(text) }

    static func run() async throws -> Result {
        say("Romulus: one guest, its dial turned while it runs")
        // The other kernel has no driver for the watchdog.
        let system = try GuestImage.build(kernel: .generic)
        return try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.name = Demo.vm
            configuration.vcpus = 1
            configuration.memoryMiB = 256
            let image = "\(bed.a.stateDirectory)/web.raw"
            configuration.disks = [
                try GuestDisk.create(image, format: .raw, mebibytes: 64, content: .random(seed: 1))
            ]
            configuration.moreArguments = ["-device", "i6300esb"]
            let storage = try await SlowDisk.start(on: bed.a, image: image, delayMilliseconds: 0)
            configuration.disks[0].path = storage.path
            configuration.driveOptions = ["cache=none,werror=report,rerror=report"]
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
            let guest = try await GuestVM.boot(on: bed.a, image: system, configuration)
            let pair = try await Pair(on: bed, options)
            var demo = LevelsDemo(pair: pair, bed: bed, guest: guest, storage: storage)
            try await demo.tell()
            return demo.result
        }
    }

    private mutating func tell() async throws {
        try await pair.protect(guest, ["--level", "component"])
        Self.say("  romulus protect web --level component: its disks are whole at both hosts, no QEMU waits")

        try await act("pull its disk at level component") { (demo) async throws in try await demo.pullDisk() }
        try await act("pull its uplink at level component") { (demo) async throws in try await demo.pullUplink() }
        try await act("turn up and down") { (demo) async throws in
            try await demo.dial(.system, at: demo.bed.a)
            try await demo.dial(.component, at: demo.bed.a)
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

        try countErrors()
        try await hangGuest()
        try await killQEMU()
        try countErrors()
    }

    /// What the guest's kernel says of its disks since its boot.
    private mutating func countErrors() throws {
        let errors = try control.shell("dmesg | grep -c 'I/O error' || true")
        guard let count = Int(errors.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw BedError("the guest's kernel says nothing: \(errors)")
        }
        result.guestErrors += count
    }

    /// Every access to the disk of its host fails, and then it works again.
    private mutating func pullDisk() async throws {
        let (pair, host) = (pair, bed.a)
        try storage.be(.eio)
        let loss = try await eventually("the disk is lost", within: .seconds(20)) {
            try pair.status(host, Demo.vm)?.diskLoss?.first
        }
        Self.say("  its disk at host A was pulled, and the guest goes on: \(loss.reason)")
        try await Task.sleep(for: .seconds(2))
        try storage.be(nil)
        try await eventually("the disk rejoins", within: .seconds(60)) {
            if try pair.status(host, Demo.vm)?.diskLoss == nil { return true }
            _ = try pair.romulus(host, ["rejoin", Demo.vm])
            return nil
        }
        result.diskFaults += 1
        let event = try pair.romulus(host, ["events", Demo.vm, "--kind", "disk_rejoined"]).output
        let bytes = event.firstMatch(of: /([0-9]+) bytes differed/).map { String($0.1) } ?? "?"
        Self.say("  romulus rejoin web: it works again, \(bytes) bytes differed and were copied")
    }

    /// The bridge of its host loses its uplink's carrier, and then has it again.
    private mutating func pullUplink() async throws {
        let (pair, host) = (pair, bed.a)
        func hear(_ kind: String) async throws {
            try await eventually("an event \(kind)", within: .seconds(30)) {
                try pair.romulus(host, ["events", Demo.vm, "--kind", kind]).output.isEmpty ? nil : true
            }
        }
        try bed.lan.setLink("port-a", up: false)
        try await hear("carried")
        Self.say("  host A's uplink was pulled, and the guest is heard through host B")
        try await Task.sleep(for: .seconds(2))
        try bed.lan.setLink("port-a", up: true)
        try await hear("carried_home")
        result.nicFaults += 1
        Self.say("  it is back, and so are the guest's frames")
    }

    private enum Level: String { case restart, component, system }

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

    /// The guest's kernel stops dead: its watchdog has it reset.
    private mutating func hangGuest() async throws {
        try await outliveBoot("hang the guest at level restart") { (demo) async throws in try demo.control.hang() }
        let event = try pair.romulus(bed.b, ["events", Demo.vm, "--kind", "guest_hung"]).output
        guard !event.isEmpty else { throw BedError("nobody was told that the guest hung") }
    }

    /// The guest is booted where it ran.
    private mutating func killQEMU() async throws {
        try await outliveBoot("kill QEMU at level restart") { (demo) async throws in
            guard let pid = try demo.pair.status(demo.bed.b, Demo.vm)?.pid else { throw BedError("no QEMU is known") }
            kill(pid, SIGKILL)
        }
    }

    /// One act under load that the guest's memory does not outlive; what it had said is written is there.
    private mutating func outliveBoot(
        _ name: String, _ body: (inout LevelsDemo) async throws -> Void
    ) async throws {
        var plan = Verifier.Plan()
        plan.redisIntervalMs = 0
        plan.ledgerIntervalMs = 5
        let verifier = try await Verifier.start(on: bed.client, guest: guest.configuration.address, plan)
        guard let before = control.boot() else { throw BedError("the guest does not answer") }
        try await Task.sleep(for: .seconds(1))
        try await body(&self)
        let control = control
        try await eventually("the guest is up again", within: .seconds(120)) {
            control.boot().flatMap { $0 == before ? nil : $0 }
        }
        try await pair.wait(bed.b, Demo.vm, for: "protected", within: .seconds(60))
        guard let ledger = try await verifier.finish().ledger else { throw BedError("there was no ledger") }
        result.lostWrites += ledger.lost + ledger.torn + ledger.unexpected
        result.longestSilenceMs[name] = ledger.longestSilenceMs
        Self.say(
            "  \(name): it was booted again, \(ledger.acknowledged) writes were acknowledged, \(ledger.lost) lost")
    }
}
