import Foundation
import TestBed
import Testing

/// Without an arbiter: what only the operator can decide, and that nothing happens before it is decided.
@Suite(.serialized, .timeLimit(.minutes(4))) struct DecisionTests {
    private func run(_ scene: Scene, _ host: BedHost, _ arguments: [String]) throws {
        let outcome = try scene.pair.romulus(host, arguments)
        guard outcome.status == 0 else {
            throw BedError("romulus \(arguments) ended with \(outcome.status): \(outcome.errors)")
        }
    }

    /// The standby is lost and output is to be held: nobody hears of the guest until the operator says that it goes on.
    @Test func aFrozenGuestIsSilentUntilTheOperatorSaysThatItGoesOn() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.pair.freezes = true
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            let early = try scene.pair.romulus(bed.a, ["go-on", Scene.vm, "--yes"])
            #expect(early.status == 5 && early.errors.contains("nothing to decide"), "\(early)")
            try bed.b.cutPower()
            try await scene.pair.wait(bed.a, Scene.vm, for: "frozen", within: .seconds(20))
            // The client reports once a second: what came before must have been told.
            try await Task.sleep(for: .seconds(1.5))
            let heard = verifier.echo.progress?.received ?? 0
            try await Task.sleep(for: .seconds(2))
            #expect(verifier.echo.progress?.received == heard, "output of a frozen guest left")
            let unconfirmed = try scene.pair.romulus(bed.a, ["go-on", Scene.vm])
            #expect(unconfirmed.status == 5)
            try run(scene, bed.a, ["go-on", Scene.vm, "--yes"])
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(6))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The operator was wrong about the other host: two histories exist, the older one stands still, and is given up by
    /// word only.
    @Test func twoHistoriesAreNeverMergedByThemselves() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.pair.reprotectsByItself = true
            let scene = try await Scene.make(on: bed, wishes)
            try await scene.pair.protect(scene.guest)
            // Both go on: A by its policy, B by the operator's wrong word.
            try bed.a.setLink("repl0", up: false)
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            try await scene.failOver()
            try bed.a.setLink("repl0", up: true)
            try await scene.pair.wait(bed.a, Scene.vm, for: "forked", within: .seconds(30))
            try await Task.sleep(for: .seconds(3))
            #expect(scene.guest.process.isRunning, "a history was given up unasked")
            try run(scene, bed.a, ["give-up", Scene.vm, "--yes"])
            try await scene.pair.wait(bed.b, Scene.vm, for: "protected", within: .seconds(60))
            #expect(!scene.guest.process.isRunning)
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "standby")
        }
    }
}
