import Foundation
import TestBed
import Testing

/// A link that cannot carry a guest's epochs: the guest falls to the level that can be kept, and climbs back by itself.
@Suite(.serialized, .timeLimit(.minutes(4))) struct DegradeTests {
    private static let afterMs = 1000

    /// Its epochs are 4 MiB that nothing makes smaller, however short they are.
    private static func load() -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.dirtying = GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 1024, pattern: .random)
        return plan
    }

    private func scene(_ bed: Bed, degrade: String, retry: Int = 5) async throws -> Scene {
        try await Scene.withWitness(on: bed) { wishes in
            wishes.hasTestMonitor = true
            wishes.pair.defaults = [
                "degrade: \(degrade)", "degrade_after_ms: \(Self.afterMs)", "degrade_retry_s: \(retry)",
            ]
        }
    }

    private func wait(_ scene: Scene, for level: String, within limit: Duration) async throws {
        let bed = scene.bed
        try await eventually("protected at level \(level)", within: limit) {
            let status = try scene.pair.status(bed.a, Scene.vm)
            return status?.level == level && status?.state == "protected" ? true : nil
        }
    }

    private func wait(_ scene: Scene, for kind: String, saying text: String) async throws {
        try await eventually("\(kind): \(text)", within: .seconds(60)) {
            try events(scene, kind).contains(text) ? true : nil
        }
    }

    private func events(_ scene: Scene, _ kind: String) throws -> String {
        try scene.pair.romulus(scene.bed.a, ["events", Scene.vm, "--kind", kind]).output
    }

    /// The link is slow for longer than the operator allows, and the last epoch arrives in time.
    @Test func aSlowLinkMakesTheGuestFallAndARepairedOneLetsItClimb() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, degrade: "restart")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Self.load())
            try await scene.pair.protect(scene.guest, ["--level", "system"])
            let before = try #require(verifier.control.boot())
            try await verifier.waitForAnswers()
            try bed.a.limitRate("repl0", megabits: 4)
            try await wait(scene, for: "state", saying: "it falls to level restart")
            try bed.a.limitRate("repl0", megabits: nil)
            try await wait(scene, for: "degraded", saying: "level restart from here on instead of system")
            try await wait(scene, for: "restart", within: .seconds(20))
            let text = try scene.pair.romulus(bed.a, ["status", Scene.vm]).output
            let reason = "system was asked for, and is not in force: degraded: the standby has not ack"
            #expect(text.contains(reason), "\(text)")
            #expect(text.contains("climbs back in "), "\(text)")
            #expect(try scene.pair.romulus(bed.a, ["list"]).output.contains("restart*"))
            let metrics = try bed.a.run(["curl", "-s", "--unix-socket", Pair.socket(bed.a), "http://agent/metrics"])
            #expect(metrics.contains(#"romulus_degraded{vm="web"} 1"#))
            #expect(metrics.contains(#"romulus_degrades_total{vm="web"} 1"#))
            try await verifier.waitForAnswers()
            try await wait(scene, for: "system", within: .seconds(60))
            try await wait(scene, for: "climbed", saying: "level system from here on again")
            try await verifier.waitForAllAnswers()
            #expect(try events(scene, "standby_lost").isEmpty)
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            // Until it is decided, the way down, and what a busy machine takes.
            let silence = report.echo.longestSilenceMs
            #expect(silence < Double(3 * Self.afterMs + 1000), "\(silence) ms")
        }
    }

    /// The link is a slow one all the while: the disks' servers are turned to over it.
    @Test func aGuestThatFellGoesOnToComponentAndClimbsFromThere() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, degrade: "component", retry: 15)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Self.load())
            try await scene.pair.protect(scene.guest, ["--level", "system"])
            let before = try #require(verifier.control.boot())
            // On a busy machine it may have fallen already.
            try await wait(scene, for: "system", within: .seconds(60))
            try await verifier.waitForAnswers()
            try await eventually("its disks are not served", within: .seconds(5)) { try scene.isServed() ? nil : true }
            try bed.a.limitRate("repl0", megabits: 4)
            try await wait(scene, for: "state", saying: "it falls to level restart")
            // What its last epoch needs, and no more.
            try bed.a.limitRate("repl0", megabits: 40)
            try await wait(scene, for: "degraded", saying: "level restart from here on instead of system")
            try await wait(scene, for: "component", within: .seconds(14))
            try await eventually("its disks are served", within: .seconds(5)) { try scene.isServed() ? true : nil }
            let text = try scene.pair.romulus(bed.a, ["status", Scene.vm]).output
            let reason = "system was asked for, and is not in force: degraded: the standby has not ack"
            #expect(text.contains(reason), "\(text)")
            #expect(!text.contains("cannot be had"), "\(text)")
            #expect(try scene.pair.romulus(bed.a, ["list"]).output.contains("component*"))
            try await verifier.waitForAnswers()
            try bed.a.limitRate("repl0", megabits: nil)
            try await wait(scene, for: "system", within: .seconds(90))
            try await wait(scene, for: "climbed", saying: "level system from here on again")
            try await eventually("its disks are its own", within: .seconds(5)) { try scene.isServed() ? nil : true }
            try await verifier.waitForAllAnswers()
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            let silence = report.echo.longestSilenceMs
            #expect(silence < Double(3 * Self.afterMs + 1000), "\(silence) ms")
        }
    }

    /// The copy of the memory takes a minute on this link. What the guest writes meanwhile goes behind little of it.
    @Test func aTrialOnASlowLinkKeepsNoWriteWaiting() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, degrade: "restart")
            var plan = Verifier.Plan()
            plan.ledgerIntervalMs = 100
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, plan)
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            try bed.a.limitRate("repl0", megabits: 4)
            #expect(try scene.pair.romulus(bed.a, ["dial", Scene.vm, "system"]).status == 0)
            try await wait(scene, for: "state", saying: "the standby reserved memory")
            try await Task.sleep(for: .seconds(8))
            #expect(try scene.pair.status(bed.a, Scene.vm)?.level == "restart")
            #expect(try scene.pair.romulus(bed.a, ["dial", Scene.vm, "restart"]).status == 0)
            try await eventually("no QEMU waits", within: .seconds(10)) { bed.b.qemus.isEmpty ? true : nil }
            try await wait(scene, for: "restart", within: .seconds(10))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            let silence = try #require(report.ledger?.longestSilenceMs)
            #expect(silence < 2 * Double(Self.afterMs), "\(silence) ms")
        }
    }

    /// Not even the last epoch arrives: the guest goes on alone, and is paired again at the level that can be kept.
    @Test(arguments: ["restart", "component"])
    func aLinkThatIsTooSlowForTheWayDownCostsTheStandbyNotTheGuest(degrade: String) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, degrade: degrade)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Self.load())
            try await scene.pair.protect(scene.guest, ["--level", "system"])
            let before = try #require(verifier.control.boot())
            try bed.a.limitRate("repl0", megabits: 4)
            try await wait(scene, for: "degraded", saying: "goes on without its standby")
            try await wait(scene, for: degrade, within: .seconds(60))
            try bed.a.limitRate("repl0", megabits: nil)
            try await wait(scene, for: "system", within: .seconds(60))
            try await verifier.waitForAllAnswers()
            #expect(verifier.control.boot() == before)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            let silence = report.echo.longestSilenceMs
            #expect(silence < Double(3 * Self.afterMs + 1000), "\(silence) ms")
        }
    }

    @Test func neverStays() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, degrade: "never")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Self.load())
            try await scene.pair.protect(scene.guest, ["--level", "system"])
            try bed.a.limitRate("repl0", megabits: 4)
            try await Task.sleep(for: .seconds(6))
            let status = try #require(try scene.pair.status(bed.a, Scene.vm))
            #expect(status.level == "system" && status.state == "protected", "\(status)")
            try bed.a.limitRate("repl0", megabits: nil)
            try await verifier.waitForAllAnswers()
            #expect(try events(scene, "degraded").isEmpty)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            // What was held for seconds left in one piece.
            #expect(try await verifier.control.framesLost(on: bed.a) == 0)
        }
    }
}
