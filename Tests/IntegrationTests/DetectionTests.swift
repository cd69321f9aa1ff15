import Foundation
import TestBed
import Testing

/// A dead link is told from a dead host, by heartbeats over the guest LAN.
@Suite(.serialized, .timeLimit(.minutes(4))) struct DetectionTests {
    private func scene(_ bed: Bed, arbiter: Pair.Arbiter) async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.pair.arbiter = arbiter
        wishes.pair.hasSecondPath = true
        return try await Scene.make(on: bed, wishes)
    }

    /// Which way the replication link is cut.
    enum Cut: String, CaseIterable, CustomTestStringConvertible {
        case both, towardsPrimary, towardsStandby
        var testDescription: String { rawValue }

        func make(_ bed: Bed) throws {
            switch self {
            case .both: try bed.a.setLink("repl0", up: false)
            case .towardsPrimary: try bed.a.dropIncoming("repl0", true)
            case .towardsStandby: try bed.b.dropIncoming("repl0", true)
            }
        }
    }

    /// Both hosts live, so the guest stays where it is, whichever way the link is dead.
    @Test(arguments: Cut.allCases) func aCutLinkMovesNoGuest(cut: Cut) async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter: .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await eventually("both hosts hear each other on both paths", within: .seconds(10)) {
                try bed.hosts.allSatisfy { host in
                    let report = try scene.pair.status(host, Scene.vm)?.peerReport
                    return report?.link == "up" && report?.secondPath == true
                } ? true : nil
            }
            try await Task.sleep(for: .seconds(1))
            try cut.make(bed)
            let status = try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(20))
            #expect(status.peerReport?.link == "down" && status.peerReport?.secondPath == true)
            try await verifier.waitForAnswers()
            // The standby asked in vain, or was not even needed to ask.
            try await eventually("the standby gives its replica up", within: .seconds(20)) {
                try scene.pair.status(bed.b, Scene.vm) == nil ? true : nil
            }
            #expect(scene.guest.process.isRunning)
            #expect(try scene.pair.status(bed.a, Scene.vm)?.role == "primary")
            let events = try bed.hosts.map { try scene.pair.romulus($0, ["events", Scene.vm]).output }
            #expect(!events[1].contains("promoted"), "\(events[1])")
            // Whoever lost the link by silence says what it knows; the other was told by it.
            #expect(events.contains { $0.contains("link down, host alive") }, "\(events)")
            #expect(events[1].contains("is heard over the second path: it may ask the arbiter first"), "\(events[1])")
            if cut == .both {
                let why = try scene.pair.romulus(bed.a, ["why", Scene.vm]).output
                #expect(why.contains("Standby lost") && why.contains("link down, host alive"), "\(why)")
                let shown = try scene.pair.romulus(bed.a, ["status", Scene.vm]).output
                #expect(shown.contains("link down, host alive"), "\(shown)")
            }
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// A host that is dead is silent on both paths: nobody is waited for.
    @Test func aDeadHostIsReplacedAllTheSame() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter: .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try bed.a.cutPower()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            let events = try scene.pair.romulus(bed.b, ["events", Scene.vm]).output
            #expect(events.contains("on either path"), "\(events)")
            try await verifier.waitForAnswers()
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The primary's agent hangs and its host does not: the standby waits no longer than it said.
    @Test func aLivingHostThatDoesNothingIsReplacedInTheEnd() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter: .witness)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            // It keeps its second path, but neither the standby nor the witness hears of its decisions.
            try bed.a.setLink("repl0", up: false)
            try bed.witness.run([
                "nft",
                "table netdev cut {\nchain in {\ntype filter hook ingress device \"lan0\" priority 0; policy accept;\n"
                    + "ip saddr \(bed.a.lanAddress ?? "") drop\n}\n}",
            ])
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(20))
            try await verifier.waitForAnswers()
            let events = try scene.pair.romulus(bed.b, ["events", Scene.vm]).output
            #expect(events.contains("and the primary said nothing since"), "\(events)")
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Without an arbiter the operator's word could run the guest twice, and this agent knows better.
    @Test func aTakeoverFromALivingHostIsRefused() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, arbiter: .operator)
            try await scene.pair.protect(scene.guest)
            try bed.a.setLink("repl0", up: false)
            try await scene.pair.wait(bed.b, Scene.vm, for: "peer_lost", within: .seconds(20))
            let refused = try scene.pair.romulus(bed.b, ["failover", Scene.vm, "--yes"])
            #expect(refused.status == 5 && refused.errors.contains("only the link is down"), "\(refused)")
            try bed.a.cutPower()
            try await eventually("the second path is silent too", within: .seconds(20)) {
                try scene.pair.status(bed.b, Scene.vm)?.peerReport?.secondPath == false ? true : nil
            }
            try await scene.failOver()
        }
    }
}
