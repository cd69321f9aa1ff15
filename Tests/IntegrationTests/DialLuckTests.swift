import Foundation
import TestBed
import Testing

/// The dial is turned, and something dies or is away meanwhile.
@Suite(.serialized, .timeLimit(.minutes(6))) struct DialLuckTests {
    private static let levels = ["component", "system", "component", "restart"]

    /// Whose agent is killed.
    enum Side: String, CaseIterable, CustomTestStringConvertible {
        case primary, standby
        var testDescription: String { rawValue }
    }

    /// The host that has the guest, once that is protected.
    private func owner(_ scene: Scene) async throws -> (host: BedHost, status: Pair.Status) {
        try await eventually("the guest is protected", within: .seconds(90)) {
            for host in scene.bed.hosts {
                guard let status = try? scene.pair.status(host, Scene.vm), status.role == "primary" else { continue }
                if status.state == "protected" { return (host, status) }
            }
            return nil
        }
    }

    /// Killed at any moment of each change, up and down: the guest runs at the old level or the new one, and the dial still turns.
    @Test(arguments: Side.allCases) func anAgentIsKilledInEachChange(of side: Side) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            var seed: UInt64 = side == .primary ? 1 : 2
            var before = "restart"
            for level in Self.levels {
                let (host, _) = try await owner(scene)
                let victim = (side == .primary) == (host === bed.a) ? bed.a : bed.b
                #expect(try scene.pair.romulus(host, ["dial", Scene.vm, level]).status == 0)
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let delay = Int(seed >> 33) % (level == "system" ? 900 : 250)
                try await Task.sleep(for: .milliseconds(delay))
                try await scene.pair.agent(victim)?.killAndWait()
                try await scene.pair.start(victim)
                let (now, status) = try await owner(scene)
                #expect([before, level].contains(status.level), "to \(level), killed after \(delay) ms: \(status)")
                let turned = try scene.pair.romulus(now, ["dial", Scene.vm, level, "--wait", "--timeout", "60"])
                #expect(turned.status == 0, "\(level): \(turned.errors)")
                // It may have been booted again.
                try await eventually("the guest answers", within: .seconds(60)) { verifier.control.boot() }
                before = level
            }
            try await Scene.expectClean(verifier)
            #expect(scene.servers().isEmpty, "a server of a disk was left")
        }
    }

    /// A turn without the arbiter is open: both levels' parts are attached, nothing is lost, and it is made when it answers.
    @Test func aWitnessIsAwayInATurn() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.withWitness(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            for (from, level) in [("restart", "component"), ("component", "restart")] {
                try await scene.pair.agent(bed.witness)?.killAndWait()
                let outcome = try scene.pair.romulus(bed.a, ["dial", Scene.vm, level, "--wait", "--timeout", "4"])
                #expect(outcome.status != 0)
                let status = try #require(try scene.pair.status(bed.a, Scene.vm))
                #expect(status.level == from && status.state == "protected", "\(status)")
                #expect(status.lastError?.hasPrefix("the turn of the dial waits for the arbiter") == true, "\(status)")
                try await verifier.waitForAnswers()
                try await scene.pair.restartArbiter()
                try await eventually("the level is \(level)", within: .seconds(20)) {
                    try scene.pair.status(bed.a, Scene.vm)?.level == level ? true : nil
                }
                try await verifier.waitForAnswers()
            }
            #expect(verifier.control.boot() == before)
            try await Scene.expectClean(verifier)
            try scene.expectEqualDisks()
        }
    }
}
