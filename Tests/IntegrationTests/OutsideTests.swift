import Foundation
import TestBed
import Testing

/// What others do to a protected guest's QEMU, over a monitor of their own.
@Suite(.serialized, .timeLimit(.minutes(3))) struct OutsideTests {
    private func withProtected(_ body: (Scene) async throws -> Void) async throws {
        try await Bed.with { bed in
            var wishes = Scene.Wishes()
            wishes.hasTestMonitor = true
            let scene = try await Scene.make(on: bed, wishes)
            try await scene.pair.protect(scene.guest)
            try await body(scene)
        }
    }

    /// Whoever ends the guest in order is obeyed, and why protection is over stays in its status.
    @Test func aGuestThatIsQuitLeavesItsReason() async throws {
        try await withProtected { scene in
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            _ = try? monitor.execute("quit")
            let over = try await scene.pair.wait(scene.bed.a, Scene.vm, for: "unprotected", within: .seconds(20))
            #expect(over.lastError?.contains("host-qmp-quit") == true, "\(over)")
            try await eventually("the replica is given up", within: .seconds(20)) {
                try scene.pair.list(scene.bed.b).isEmpty ? true : nil
            }
            try await Task.sleep(for: .seconds(1))
            #expect(try scene.pair.status(scene.bed.a, Scene.vm)?.lastError == over.lastError, "the reason stays")
        }
    }

    /// As “virsh save” and a migration do it: QEMU sends all of the guest away, and no standby may go on with it.
    @Test func aGuestThatIsMigratedAwayLeavesItsReason() async throws {
        try await withProtected { scene in
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            try monitor.execute("migrate", ["uri": "exec:cat > /dev/null"])
            let over = try await scene.pair.wait(scene.bed.a, Scene.vm, for: "unprotected", within: .seconds(60))
            #expect(over.lastError?.contains("migrated the guest away") == true, "\(over)")
            #expect(try monitor.execute("query-status")["status"]?.string == "postmigrate", "it was not let run on")
            try await eventually("the replica is given up", within: .seconds(20)) {
                try scene.pair.list(scene.bed.b).isEmpty ? true : nil
            }
            kill(scene.guest.pid, SIGKILL)
            try await Task.sleep(for: .seconds(2))
            #expect(try scene.pair.list(scene.bed.b).isEmpty, "nobody goes on with it")
            let later = try #require(try scene.pair.status(scene.bed.a, Scene.vm)?.lastError)
            #expect(later.hasPrefix(over.lastError ?? "-"), "the reason stays: \(later)")
        }
    }

    /// A pause is no end: no checkpoints until the guest runs again, and then protection goes on.
    @Test func aGuestThatIsPausedIsProtectedAgainWhenItRuns() async throws {
        try await withProtected { scene in
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            try monitor.execute("stop")
            try await eventually("the pause is told", within: .seconds(20)) {
                try scene.pair.romulus(scene.bed.a, ["events", Scene.vm]).output
                    .contains("someone else paused the guest: no checkpoints until it runs again") ? true : nil
            }
            let paused = try #require(try scene.pair.status(scene.bed.a, Scene.vm))
            #expect(paused.state == "protected" && paused.lastError == nil)
            #expect(try monitor.execute("query-status")["status"]?.string == "paused", "it is not ours to let run on")
            try monitor.execute("cont")
            try await eventually("checkpoints come again", within: .seconds(20)) {
                (try scene.pair.status(scene.bed.a, Scene.vm)?.epoch ?? 0) > paused.epoch + 2 ? true : nil
            }
        }
    }

    /// What QEMU says in the guest's name waits for its epoch like the guest's own, and reaches the tap as a frame: what the tap's
    /// device hands on with a header that it did not understand is none.
    @Test func anAnnouncementReachesTheTap() async throws {
        try await withProtected { scene in
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            // How long the header is is learnt from a frame of the guest's own.
            try GuestControl(client: scene.bed.client, address: scene.address).shell("true")
            let hook = "type filter hook ingress device \"tap0\" priority 0; policy accept;"
            try scene.bed.a.run(["nft", "table netdev heard {\nchain in {\n\(hook)\nether type 0x8035 counter\n}\n}"])
            func heard() throws -> String { try scene.bed.a.run(["nft", "list", "table", "netdev", "heard"]) }
            #expect(try heard().contains("counter packets 0 "))
            try monitor.execute("announce-self", ["initial": 50, "max": 550, "rounds": 5, "step": 100])
            try await eventually("all announcements reached the tap", within: .seconds(20)) {
                try heard().contains("counter packets 5 ") ? true : nil
            }
            #expect(try scene.pair.status(scene.bed.a, Scene.vm)?.state == "protected")
        }
    }
}
