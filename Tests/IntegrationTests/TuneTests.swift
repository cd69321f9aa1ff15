import Foundation
import TestBed
import Testing

/// Epochs that are changed while the guest is protected.
@Suite(.serialized, .timeLimit(.minutes(4))) struct TuneTests {
    @Test func epochsFollowTheTuningWithoutANewFirstCopyAndKeepItOverAFailover() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.make(on: bed)
            let (pair, vm) = (scene.pair, Scene.vm)
            func tune(_ arguments: [String], at host: BedHost? = nil) throws -> Pair.Outcome {
                try pair.romulus(host ?? bed.a, ["tune", vm] + arguments)
            }
            /// How many checkpoints were committed in some seconds.
            func epochs() async throws -> UInt64 {
                let before = try #require(try pair.status(bed.a, vm))
                try await Task.sleep(for: .seconds(4))
                return try #require(try pair.status(bed.a, vm)).epoch - before.epoch
            }
            let control = GuestControl(client: bed.client, address: scene.address)
            try control.shell("while :; do :; done > /dev/null 2>&1 < /dev/null &")
            try await pair.protect(scene.guest)
            let many = try await epochs()
            #expect(try tune(["--epoch-ms", "1000"]).status == 0)
            #expect(try pair.status(bed.a, vm)?.epochMs == 1000)
            let few = try await epochs()
            #expect(few > 0 && few <= 6 && few * 2 < many, "\(many) before, \(few) after")

            // No way to the standby and back is that short.
            #expect(try tune(["--epoch-ms", "20", "--target-latency", "1ms"]).status == 0)
            let missed = try await eventually("the target is told as missed", within: .seconds(30)) {
                try pair.status(bed.a, vm)?.target.flatMap { $0.held ? nil : $0 }
            }
            #expect(missed.latencyMs == 1 && (missed.reached ?? 0) > 1)
            #expect(missed.reason?.contains("ms for the way to hostb and back") == true)
            #expect(try tune(["--target-latency", "2s"]).status == 0)
            let held = try await eventually("the target is told as held", within: .seconds(30)) {
                try pair.status(bed.a, vm)?.target.flatMap { $0.held && $0.reached != nil ? $0 : nil }
            }
            #expect(held.latencyMs == 2000 && held.reason == nil)

            #expect(try tune(["--target-overhead", "20%", "--epoch-ms", "30"]).status == 0)
            #expect(try scene.memoryCopies().count == 1, "nothing was copied anew")
            let told = try pair.romulus(bed.a, ["events", vm, "--kind", "tuned"]).output
            #expect(told.contains("an epoch of at most 30 ms, no more than 20.0 % of its work lost"))
            #expect(try tune(["--no-target"], at: bed.b).status == 5)

            try await scene.guest.killAndWait()
            try await pair.wait(bed.b, vm, for: "running", within: .seconds(60))
            let after = try #require(try pair.status(bed.b, vm))
            #expect(after.epochMs == 30 && after.target?.overheadPercent == 20)
            #expect(try tune(["--no-target"], at: bed.b).status == 0)
            #expect(try pair.status(bed.b, vm)?.target == nil)
        }
    }
}
