import Foundation
import TestBed
import Testing

/// Level `component`: a disk of the guest's host fails or hangs, and the guest goes on with the other host's copy.
@Suite(.serialized, .timeLimit(.minutes(4))) struct ComponentTests {
    @Test(arguments: [SlowDisk.Fault.eio, .enospc, .hang])
    func aDiskFailsAndRejoinsUnnoticed(fault: SlowDisk.Fault) async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            try await Task.sleep(for: .seconds(1))
            try storage.be(fault)
            let lost = try await scene.waitUntilLost()
            #expect(!lost.rejoining, "\(lost)")
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(1))
            #expect(try scene.complaints() == "")
            let refused = try scene.pair.romulus(bed.a, ["dial", Scene.vm, "restart", "--wait", "--timeout", "20"])
            #expect(refused.status != 0 && refused.errors.contains("is lost here"), "\(refused)")

            try storage.be(nil)
            try await scene.rejoin()
            try await verifier.waitForAnswers()
            #expect(verifier.control.boot() == before)
            #expect(try scene.complaints() == "")
            try await Scene.expectClean(verifier)
            let events = try scene.pair.romulus(bed.a, ["events", Scene.vm]).output
            #expect(events.contains("disk_fault") && events.contains("disk_rejoined"), "\(events)")
            try scene.expectEqualDisks()
        }
    }

    @Test func itIsTurnedToAndFromTheOtherLevels() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let before = try #require(verifier.control.boot())
            for level in ["component", "system", "component", "restart"] {
                let outcome = try scene.pair.romulus(
                    bed.a, ["dial", Scene.vm, level, "--wait", "--timeout", "60"])
                #expect(outcome.status == 0, "\(level): \(outcome.errors)")
                let status = try #require(try scene.pair.status(bed.a, Scene.vm))
                #expect(status.level == level && status.state == "protected", "\(status)")
                #expect(try scene.isServed() == (level == "component"), "\(level)")
                try await verifier.waitForAnswers()
            }
            #expect(verifier.control.boot() == before)
            try await Scene.expectClean(verifier)
            try scene.expectEqualDisks()
        }
    }

    /// A guest that lives by the standby's disk is ended with the link, and goes on there with all that it wrote.
    @Test func aGuestWithoutADiskGoesOnWhereTheDiskIs() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let storage = try #require(scene.storage)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            try storage.be(.eio)
            try await scene.waitUntilLost()
            try await Task.sleep(for: .seconds(1))
            try bed.a.cutPower()
            try await Scene.waitForBoot(after: before, verifier, within: .seconds(120))
            try await Scene.expectClean(verifier)
        }
    }

    /// Both agents die, and the one of the guest's host comes back: writes waited for it, and the guest goes on alone.
    @Test func theGuestOutlivesBothAgents() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let before = try #require(verifier.control.boot())
            scene.pair.agent(bed.b)?.kill(SIGSTOP)
            try await scene.pair.agent(bed.a)?.killAndWait()
            try await scene.pair.agent(bed.b)?.killAndWait()
            try await Task.sleep(for: .seconds(1))
            try await scene.pair.start(bed.a)
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(30))
            try await verifier.waitForAnswers()
            #expect(try !scene.isServed())
            try await scene.pair.start(bed.b)
            try await scene.pair.wait(bed.a, Scene.vm, for: "protected", within: .seconds(60))
            #expect(verifier.control.boot() == before)
            #expect(try scene.complaints() == "")
            try await Scene.expectClean(verifier)
        }
    }

    /// The server of the disk is killed: another one takes its place, and the guest saw a disk that was slow.
    @Test func theServerOfADiskIsReplaced() async throws {
        try await Bed.with { bed in
            let scene = try await Scene.atComponent(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.protectAtComponent()
            let servers = try Child.run(["pgrep", "-f", "disk-server.*\(bed.a.runtimeDirectory)"]).split(
                separator: "\n")
            let pid = try #require(servers.compactMap { pid_t($0) }.first)
            kill(pid, SIGKILL)
            try await verifier.waitForAnswers()
            try await Task.sleep(for: .seconds(3))
            try await verifier.waitForAnswers()
            #expect(try scene.complaints() == "")
            try await Scene.expectClean(verifier)
        }
    }
}
