import Foundation
import TestBed
import Testing

/// Links that are long, slow, or not to be filled.
@Suite(.serialized, .timeLimit(.minutes(5))) struct LinkTests {
    private static func plan(pages: Int) -> Verifier.Plan {
        var plan = Scene.load(pages: pages)
        plan.echoConnections = 4
        return plan
    }

    /// QEMU dies, and host B goes on with the guest.
    private func expectNothingIsLost(_ scene: Scene, _ verifier: Verifier) async throws {
        try await scene.guest.killAndWait()
        try await scene.pair.wait(scene.bed.b, Scene.vm, for: "running", within: .seconds(60))
        try await verifier.waitForAnswers()
        let report = try await verifier.finish()
        #expect(report.isClean, "\(report)")
    }

    /// 100 ms to the standby and back: as many epochs are on the way as fit into that, and not one answer comes early, twice
    /// or out of order, over a failover too; over one connection and over several.
    @Test(arguments: [1, 4]) func aLongLinkIsFilledWithEpochs(_ connections: Int) async throws {
        try await Bed.with { bed in
            try await bed.stretchLink(delayMilliseconds: 50)
            var wishes = Scene.Wishes()
            wishes.pair.connections = connections
            let scene = try await Scene.make(on: bed, wishes)
            let (pair, vm) = (scene.pair, Scene.vm)
            try await pair.protect(scene.guest)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Self.plan(pages: 100))
            let busy = try await eventually("more than three checkpoints on the way", within: .seconds(30)) {
                try pair.status(bed.a, vm).flatMap {
                    ($0.epochsInFlight ?? 0) > 3 && $0.epochsPerSecond > 30 ? $0 : nil
                }
            }
            #expect((busy.epochsInFlight ?? 0) <= 32)
            #expect(busy.linkConnections == connections)
            try await Task.sleep(for: .seconds(3))
            let transfer = try #require(try pair.status(bed.a, vm)?.lastEpoch?.transferMs)
            #expect(transfer >= 100, "an epoch was acknowledged after \(transfer) ms")
            let latency = try #require(verifier.echo.progress?.latencyP50Ms)
            #expect(latency >= 100 && latency < 250, "an answer took \(latency) ms")

            try await expectNothingIsLost(scene, verifier)
        }
    }

    /// 20 Mbit/s for a guest that writes more than that: epochs become longer, the standby does not count as lost, and
    /// the guest stands still for no longer than on a fast link.
    @Test func aSlowLinkMakesEpochsLongAndNotPauses() async throws {
        try await Bed.with { bed in
            try await bed.stretchLink(delayMilliseconds: 5)
            let scene = try await Scene.make(on: bed)
            let (pair, vm) = (scene.pair, Scene.vm)
            try await pair.protect(scene.guest)
            for host in bed.hosts { try host.limitRate("repl0", megabits: 20) }
            var plan = Self.plan(pages: 100)
            plan.dirtying?.workingSet = 256
            plan.dirtying?.pattern = .random
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, plan)
            try await Task.sleep(for: .seconds(10))
            let status = try #require(try pair.status(bed.a, vm))
            #expect(status.state == "protected")
            #expect(status.linkBytesPerSecond < 2_700_000, "\(status.linkBytesPerSecond) bytes per second")
            #expect(status.epochsPerSecond > 0.5 && status.epochsPerSecond < 20, "\(status.epochsPerSecond) epochs")
            let pause = try #require(status.pauseMs)
            // Not the longest: a guest that flushes its disk waits for this host's disk, whatever the link does.
            #expect(pause.p50 < 40, "the guest stood still for \(pause.p50) ms")
            // A megabyte an epoch: one on its way and one more when it is nearly through, not a queue of them.
            #expect(status.epochsInFlight ?? 0 <= 2)
            let latency = try #require(verifier.echo.progress?.latencyP50Ms)
            #expect(latency < 1500, "an answer took \(latency) ms")

            try await expectNothingIsLost(scene, verifier)
        }
    }

    @Test func aCapIsKeptAndCanBeChangedWhileProtected() async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.pair.defaults = ["link_cap_mbit: 400"]
            let scene = try await Scene.make(on: bed, wishes)
            let (pair, vm) = (scene.pair, Scene.vm)
            try await pair.protect(scene.guest)
            #expect(try pair.status(bed.a, vm)?.linkCapMbit == 400)
            let control = GuestControl(client: bed.client, address: scene.address)
            // An epoch of two megabytes leaves in one piece: the most by which what is counted can be wrong.
            try control.dirty(.init(pages: 200, periodMs: 20, workingSet: 512, pattern: .random))
            /// What the link carried in some seconds, in bytes per second.
            func rate(over seconds: Int) async throws -> Double {
                try await Task.sleep(for: .seconds(3))
                let (start, before) = (ContinuousClock.now, try bed.a.bytesSent("repl0"))
                try await Task.sleep(for: .seconds(seconds))
                let after = try bed.a.bytesSent("repl0")
                // On a busy machine it takes longer than it sleeps.
                return Double(after - before) / ((ContinuousClock.now - start) / .seconds(1))
            }
            #expect(try pair.romulus(bed.a, ["tune", vm, "--link-cap", "6mbit"]).status == 0)
            #expect(try pair.status(bed.a, vm)?.linkCapMbit == 6)
            let capped = try await rate(over: 10)
            // With the headers of TCP and IP, and such an epoch.
            #expect(
                capped > 350_000 && capped < 750_000 * 1.05 + 2_200_000 / 10,
                "\(capped) bytes per second under a cap of 750000")
            #expect(try pair.romulus(bed.a, ["tune", vm, "--link-cap", "none"]).status == 0)
            #expect(try pair.status(bed.a, vm)?.linkCapMbit == nil)
            let free = try await rate(over: 5)
            #expect(free > 2 * capped, "\(free) bytes per second without, \(capped) with")
            #expect(try pair.romulus(bed.a, ["tune", vm, "--link-cap", "fast"]).status == 64)
            #expect(try scene.memoryCopies().count == 1, "nothing was copied anew")
        }
    }
}
