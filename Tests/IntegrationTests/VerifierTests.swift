import Foundation
import TestBed
import Testing

/// The verifier of the failover tests is itself verified: an agent with a planted fault must be found out.
@Suite(.serialized, .timeLimit(.minutes(4))) struct VerifierTests {
    @Test(arguments: ["release-before-acknowledgement", "skip-dirty-page", "skip-disk-write"])
    func aPlantedFaultIsFound(fault: String) async throws {
        var found = false
        for _ in 1...5 where !found {
            found = try await loses(fault)
        }
        #expect(found, "five failovers with the fault “\(fault)” looked clean")
    }

    private func loses(_ fault: String) async throws -> Bool {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.pair.program = "romulusd-planted"
            wishes.pair.environment = ["ROMULUS_PLANTED_FAULT": fault]
            // A link this slow keeps acknowledgements waiting, so that output released without them is ahead of them.
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load(pages: 600))
            try await scene.pair.protect(scene.guest)
            if fault == "release-before-acknowledgement" { try bed.a.limitRate("repl0", megabits: 20) }
            try await Task.sleep(for: .seconds(3))
            bed.a.killAll()
            try await scene.failOver()
            do {
                try await verifier.waitForAnswers()
                return try await !verifier.finish().isClean
            } catch {
                // A guest that did not survive the fault is a loss that was found, too.
                return true
            }
        }
    }
}
