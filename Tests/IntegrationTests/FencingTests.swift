import Foundation
import TestBed
import Testing

/// Two hosts without an arbiter, and fence commands in place of the operator's word.
@Suite(.serialized, .timeLimit(.minutes(4))) struct FencingTests {
    /// A program that kills everything that runs at `victim`, as its power switch would, and is sure of it.
    private func powerSwitch(of victim: BedHost, at host: BedHost) throws -> String {
        let path = "\(host.stateDirectory)/fence"
        try """
        #!/bin/sh
        echo "$ROMULUS_NODE fences $ROMULUS_PEER for $ROMULUS_VM: $ROMULUS_REASON" >> \(host.stateDirectory)/fenced
        for round in 1 2 3 4 5 6 7 8 9 10; do
            pids=$(ip netns pids \(victim.namespace)) || exit 2
            [ -z "$pids" ] && exit 0
            kill -9 $pids
            sleep 0.1
        done
        exit 1
        """.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
        return path
    }

    private func scene(_ bed: Bed, a: String, b: String) async throws -> Scene {
        var wishes = Scene.Wishes()
        wishes.pair.fences = [
            "a": ["command: [\(a)]", "timeout_ms: 5000"], "b": ["command: [\(b)]", "delay_ms: 500"],
        ]
        return try await Scene.make(on: bed, wishes)
    }

    private func metrics(_ host: BedHost) throws -> String {
        try host.run(["curl", "-s", "--max-time", "10", "--unix-socket", Pair.socket(host), "http://agent/metrics"])
    }

    private func released(_ host: BedHost) throws -> String {
        let line = try metrics(host).split(separator: "\n").first { $0.hasPrefix("romulus_released_frames_total{") }
        return String(try #require(line))
    }

    /// The primary's host loses its link and its agent stands still; nobody says anything to anybody.
    @Test func aHalfDeadHostIsFencedAndItsGuestGoesOnByItself() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, a: "/bin/false", b: try powerSwitch(of: bed.a, at: bed.b))
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try bed.a.setLink("repl0", up: false)
            kill(try #require(scene.pair.agent(bed.a)).pid, SIGSTOP)
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(30))
            #expect(!scene.guest.process.isRunning)
            #expect(bed.a.processes.isEmpty)
            try await verifier.waitForAnswers()
            let said = try String(contentsOfFile: "\(bed.b.stateDirectory)/fenced", encoding: .utf8)
            #expect(said.hasPrefix("hostb fences hosta for web: ") && said.split(separator: "\n").count == 1, "\(said)")
            let why = try scene.pair.romulus(bed.b, ["why", Scene.vm]).output
            for word in ["Fencing asked", "Fencing confirmed", "hosta is confirmed off", "Promoted"] {
                #expect(why.contains(word), "“\(word)” is missing in: \(why)")
            }
            #expect(try metrics(bed.b).contains("romulus_fencing_total{result=\"confirmed\"} 1"))
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Neither can make sure of the other: the guest's output waits at the primary, and the standby for a word.
    @Test func whatIsNotConfirmedWaitsForTheOperator() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, a: "/bin/false", b: "/bin/false")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            try bed.a.setLink("repl0", up: false)
            for host in bed.hosts {
                let state = host.name == "a" ? "frozen" : "peer_lost"
                try await scene.pair.wait(host, Scene.vm, for: state, within: .seconds(30))
                try await eventually("host \(host.name) tells that the fencing failed", within: .seconds(30)) {
                    try scene.pair.romulus(host, ["why", Scene.vm]).output.contains("Fencing failed") ? true : nil
                }
            }
            let before = try released(bed.a)
            try await Task.sleep(for: .seconds(3))
            #expect(try released(bed.a) == before, "output left a primary whose standby was not confirmed off")
            #expect(try scene.pair.status(bed.b, Scene.vm)?.state == "peer_lost")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.lastError?.contains("not confirmed off") ?? false)
            // The operator makes sure, and says so.
            bed.b.killAll()
            let outcome = try scene.pair.romulus(bed.a, ["go-on", Scene.vm, "--yes"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await verifier.waitForAnswers()
            #expect(scene.guest.process.isRunning)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// The standby's host dies; the primary makes sure of it and goes on alone, in the same history.
    @Test func aPrimaryGoesOnAloneOnceItsStandbyIsConfirmedOff() async throws {
        try await Bed.with { bed in
            let scene = try await scene(bed, a: try powerSwitch(of: bed.b, at: bed.a), b: "/bin/false")
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            try await scene.pair.protect(scene.guest)
            try await Task.sleep(for: .seconds(1))
            // Only its link is gone: it would be asked to take over by nobody, and must be off before anything leaves.
            try bed.a.setLink("repl0", up: false)
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(30))
            try await verifier.waitForAnswers()
            #expect(bed.b.processes.isEmpty)
            let why = try scene.pair.romulus(bed.a, ["why", Scene.vm]).output
            #expect(why.contains("hostb is confirmed off"), "\(why)")
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
        }
    }

    /// Protection that is ended in order begins no fencing: the standby lets go first.
    @Test func anOrderlyEndFencesNobody() async throws {
        try await Bed.with { bed in
            let scene = try await scene(
                bed, a: try powerSwitch(of: bed.b, at: bed.a), b: try powerSwitch(of: bed.a, at: bed.b))
            try await scene.pair.protect(scene.guest)
            let outcome = try scene.pair.romulus(bed.a, ["unprotect", Scene.vm])
            #expect(outcome.status == 0, "\(outcome.errors)")
            try await Task.sleep(for: .seconds(3))
            for host in bed.hosts {
                #expect(!FileManager.default.fileExists(atPath: "\(host.stateDirectory)/fenced"))
            }
            let answer = try GuestControl(client: bed.client, address: scene.address).shell("echo alive")
            #expect(answer.contains("alive"))
        }
    }
}
