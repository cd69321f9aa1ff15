import Foundation
import QEMU
import TestBed

/// From the death of the guest's QEMU to the guest running at the standby, beside a bare load of a guest's state.
enum FailoverBench {
    static let about = "steps of a failover after the death of QEMU, beside a bare migrate-incoming of a like guest"

    static let rounds = 4

    private struct Times {
        var noticed: Double
        var steps: Pair.TakeOverSteps
        var whole: Double
        var silence: Double
    }

    static func measure(_ image: GuestImage) async throws -> Measured {
        var times: [Times] = []
        var loads: [Double] = []
        for round in 1...rounds {
            loads += try await IncomingLoad.measure(image, times: 3)
            times.append(try await failover(image))
            Bench.say(
                "  round \(round), ms: noticed \(Table.number(times[round - 1].noticed)), decision to running "
                    + "\(Table.number(times[round - 1].steps.running)), bare load \(Table.number(loads.last ?? .nan))")
        }
        return Measured(figures: [
            Figure("kill of QEMU to the standby knowing", times.map(\.noticed), "ms", goal: 50),
            Figure("decision to running", times.map(\.steps.running), "ms", goal: 10),
            Figure("decision to running", times.map(\.steps.running), "ms", over: loads, "migrate-incoming", goal: 2),
            Figure("decision to QEMU having the state", times.map(\.steps.loaded), "ms"),
            Figure("decision to the term being durable", times.map(\.steps.recorded), "ms"),
            Figure("kill of QEMU to running", times.map(\.whole), "ms"),
            Figure("longest silence that a client saw", times.map(\.silence), "ms", goal: 150),
        ])
    }

    private static func failover(_ image: GuestImage) async throws -> Times {
        try await Bed.with { bed in
            let rig = try await Rig(bed, image)
            try rig.dirtySome()
            try await rig.protect()
            let echo = try Workload<EchoReport>(
                on: bed.client,
                ["echo", "address=\(rig.guest.configuration.address)", "connections=1", "interval_ms=10", "bytes=64"])
            try await echo.waitUntilRunning()
            try await Task.sleep(for: .seconds(1))
            let killed = bootTime()
            rig.guest.process.kill()
            try await rig.pair.wait(bed.b, Rig.vm, for: "running", within: .seconds(30))
            try await Task.sleep(for: .seconds(1))
            let report = try await echo.finish()
            guard report.isClean else { throw BedError("the failover lost something: \(report)") }
            let knew = try rig.pair.bootTime(ofFirst: "detected", at: bed.b, Rig.vm)
            let ran = try rig.pair.bootTime(ofFirst: "promoted", at: bed.b, Rig.vm)
            return Times(
                noticed: Double(knew - killed) / 1e6, steps: try rig.pair.takeOverSteps(bed.b, Rig.vm),
                whole: Double(ran - killed) / 1e6, silence: report.longestSilenceMs)
        }
    }

    /// CLOCK_BOOTTIME in nanoseconds, which is what the journals have.
    private static func bootTime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// The floor of a failover: a waiting QEMU loads the state of a guest whose memory lies in a shared file, and runs it.
enum IncomingLoad {
    /// Milliseconds from the order to load to the guest running, so many times.
    static func measure(_ image: GuestImage, times: Int) async throws -> [Double] {
        try await Bed.with { bed in
            var configuration = GuestVM.Configuration()
            configuration.name = "floor"
            configuration.hasTestMonitor = true
            let memory = "\(bed.a.shmDirectory)/floor.memory"
            configuration.moreArguments = [
                "-object", "memory-backend-file,id=ram0,size=\(configuration.memoryMiB)M,mem-path=\(memory),share=on",
                "-machine", "memory-backend=ram0",
            ]
            let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
            let stream = "\(bed.a.shmDirectory)/floor.stream"
            try save(guest, to: stream)
            try await guest.killAndWait()
            var results: [Double] = []
            for _ in 0..<times { results.append(try await load(guest, from: stream)) }
            return results
        }
    }

    private static let ignoreShared: JSONValue = [
        "capabilities": [["capability": "x-ignore-shared", "state": true], ["capability": "events", "state": true]]
    ]

    private static func save(_ guest: GuestVM, to path: String) throws {
        let monitor = try QMPConnection(path: guest.testMonitorPath)
        defer { monitor.close() }
        try monitor.execute("migrate-set-capabilities", ignoreShared)
        try monitor.execute("migrate", ["uri": .string("exec:cat >\(path)")])
        try awaitMigration(monitor)
    }

    private static func load(_ guest: GuestVM, from path: String) async throws -> Double {
        // Stopped after the load, so that the memory still fits the next one.
        let process = try guest.host.spawn(guest.arguments + ["-S", "-incoming", "defer"], name: "floor-incoming")
        defer { process.kill() }
        try await eventually("the waiting QEMU answers", within: .seconds(20)) {
            guard process.isRunning else { throw BedError("QEMU ended: \(process.errors)") }
            return (try? QMPConnection(path: guest.monitorPath)).map { $0.close() }
        }
        // Its start is over, as that of a standby that has waited for long.
        try await Task.sleep(for: .milliseconds(500))
        let monitor = try QMPConnection(path: guest.testMonitorPath)
        defer { monitor.close() }
        try monitor.execute("migrate-set-capabilities", ignoreShared)
        let clock = ContinuousClock()
        let began = clock.now
        try monitor.execute("migrate-incoming", ["uri": .string("exec:cat \(path)")])
        try awaitMigration(monitor)
        try monitor.execute("cont")
        let took = began.duration(to: clock.now).milliseconds
        process.kill()
        try await process.wait()
        return took
    }

    private static func awaitMigration(_ monitor: QMPConnection) throws {
        let end = try monitor.waitForEvent(timeout: .seconds(30)) { event in
            event.name == "MIGRATION" && ["completed", "failed"].contains(event.data["status"]?.string)
        }
        guard end?.data["status"]?.string == "completed" else { throw BedError("QEMU did not carry the state over.") }
    }
}
