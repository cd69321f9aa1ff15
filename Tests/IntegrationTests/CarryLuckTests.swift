import Foundation
import TestBed
import Testing

/// Uplinks on a bad day: no loop, no frame twice, and the guest is back by itself.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CarryLuckTests {
    private func scene(_ bed: Bed) async throws -> Scene {
        let scene = try await Scene.withWitness(on: bed)
        try await scene.pair.protect(scene.guest, ["--level", "component"])
        // Both hosts have looked at their uplinks.
        try await Task.sleep(for: .seconds(1))
        return scene
    }

    private func count(_ kind: String, _ scene: Scene) throws -> Int {
        try scene.pair.romulus(scene.bed.a, ["events", Scene.vm, "--kind", kind, "--output", "json"]).output
            .split(separator: "\n").count
    }

    private func wait(for kind: String, _ number: Int, _ scene: Scene, within limit: Duration) async throws {
        try await eventually("\(number) events \(kind)", within: limit) {
            try count(kind, scene) >= number ? true : nil
        }
    }

    /// The network of host A is there and gone, ten times a second.
    private func flap(_ bed: Bed, _ times: Int) async throws {
        for _ in 0..<times {
            try bed.lan.setLink("port-a", up: false)
            try await Task.sleep(for: .milliseconds(90))
            try bed.lan.setLink("port-a", up: true)
            try await Task.sleep(for: .milliseconds(90))
        }
    }

    private func expectNoneTwice(_ pinger: Pinger) {
        let (answered, twice) = pinger.end()
        #expect(answered > 50 && twice == 0, "\(answered) echoes were answered, \(twice) of them twice")
    }

    @Test func anUplinkThatFlapsMovesTheGuestOnce() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes(everyMs: 20))
            let pinger = try Pinger(from: bed.client, to: scene.address)
            try await flap(bed, 15)
            #expect(try count("carried", scene) == 1 && count("carried_home", scene) == 0)
            try await wait(for: "carried_home", 1, scene, within: .seconds(20))
            try await verifier.waitForAnswers()
            // A second time: it waits longer for its network.
            try await flap(bed, 3)
            let quiet = ContinuousClock.now
            try await wait(for: "carried_home", 2, scene, within: .seconds(30))
            #expect(ContinuousClock.now - quiet > .seconds(9))
            #expect(try count("carried", scene) == 2)
            try await verifier.waitForAnswers()
            expectNoneTwice(pinger)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
        }
    }

    /// The other host's network is lost too, while it carries; and both come back.
    @Test func bothUplinksAreLost() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes(everyMs: 20))
            let pinger = try Pinger(from: bed.client, to: scene.address)
            try bed.lan.setLink("port-a", up: false)
            try await wait(for: "carried", 1, scene, within: .seconds(10))
            try await verifier.waitForAnswers()
            try bed.lan.setLink("port-b", up: false)
            try await Task.sleep(for: .seconds(2))
            let moves = try (count("carried", scene), count("carried_home", scene))
            #expect(moves.0 == 1 && moves.1 == 0, "nowhere is better: \(moves)")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.state == "protected")
            for port in ["port-b", "port-a"] { try bed.lan.setLink(port, up: true) }
            try await verifier.waitForAnswers()
            try await wait(for: "carried_home", 1, scene, within: .seconds(20))
            try await verifier.waitForAnswers()
            #expect(try count("carried", scene) == 1)
            expectNoneTwice(pinger)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }
}
