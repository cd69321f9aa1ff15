import Foundation
import TestBed
import Testing

/// A guest without a watchdog, whose agent tells by its silence that it hangs.
@Suite(.serialized, .timeLimit(.minutes(5))) struct GuestAgentTests {

    private func scene(on bed: Bed, hasPort: Bool = true) async throws -> Scene {
        try await Scene.withWitness(on: bed) { wishes in
            if hasPort {
                wishes.moreArguments = [
                    "-device", "virtio-serial", "-chardev",
                    "socket,path=\(bed.a.stateDirectory)/web.qga,server=on,wait=off,id=qga0", "-device",
                    "virtserialport,chardev=qga0,id=agent0,name=org.qemu.guest_agent.0",
                ]
            }
            wishes.hasTestMonitor = true
            wishes.pair.defaults = ["guest_agent_silence_seconds: 5"]
        }
    }

    private func control(_ scene: Scene) -> GuestControl {
        GuestControl(client: scene.bed.client, address: scene.address)
    }

    private func events(_ scene: Scene, at host: BedHost, _ kind: String) throws -> String {
        try scene.pair.romulus(host, ["events", Scene.vm, "--kind", kind]).output
    }

    private func waitUntilHeard(_ scene: Scene, at host: BedHost, times: Int = 1) async throws {
        try await eventually("the guest's agent is heard", within: .seconds(60)) {
            let told = try events(scene, at: host, "state")
            return told.components(separatedBy: "the guest agent answers").count > times ? true : nil
        }
    }

    /// For how many seconds the agent had been silent when the guest was reset last; nil where it was not.
    private func silence(_ scene: Scene, at host: BedHost) throws -> Int? {
        let parts = try events(scene, at: host, "guest_hung").components(separatedBy: "agent has not answered for ")
        return parts.count > 1 ? parts.last.flatMap { Int($0.prefix { $0 != " " }) } : nil
    }

    private func waitForBoot(_ scene: Scene, after old: String) async throws {
        let control = control(scene)
        try await eventually("the guest is up again", within: .seconds(120)) {
            control.boot().flatMap { $0 == old ? nil : $0 }
        }
    }

    /// It is reset in its own QEMU, stays protected at its level, and its agent is heard again.
    @Test(arguments: ["component", "system"]) func aGuestThatHangsIsReset(level: String) async throws {
        try await Bed.with { bed in
            let scene = try await scene(on: bed)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.writes())
            try await scene.pair.protect(scene.guest, ["--level", level])
            try await waitUntilHeard(scene, at: bed.a)
            let before = try #require(control(scene).boot())
            try await Task.sleep(for: .seconds(7))
            #expect(try events(scene, at: bed.a, "guest_hung").isEmpty, "a guest that answers is left alone")
            try control(scene).hang()
            try await waitForBoot(scene, after: before)
            try await Scene.expectClean(verifier)
            let silent = try #require(try silence(scene, at: bed.a))
            #expect((5...20).contains(silent), "\(silent) s")
            let status = try #require(try scene.pair.status(bed.a, Scene.vm))
            #expect(status.state == "protected" && status.level == level && status.pid == scene.guest.pid, "\(status)")
            #expect(try events(scene, at: bed.a, "restarted").isEmpty && events(scene, at: bed.b, "promoted").isEmpty)
            try await waitUntilHeard(scene, at: bed.a, times: 2)
        }
    }

    /// Nothing is attached to it then, and at level `system` its monitor is the operator's.
    @Test(arguments: ["restart"]) func aGuestThatHangsAloneIsReset(level: String) async throws {
        try await Bed.with { bed in
            let scene = try await scene(on: bed)
            try await scene.pair.protect(scene.guest, ["--level", level])
            try await waitUntilHeard(scene, at: bed.a)
            try bed.b.cutPower()
            try await scene.pair.wait(bed.a, Scene.vm, for: "peer_lost", within: .seconds(30))
            let before = try await eventually("the guest answers", within: .seconds(30)) { control(scene).boot() }
            try await Task.sleep(for: .seconds(7))
            #expect(try silence(scene, at: bed.a) == nil)
            try control(scene).hang()
            try await waitForBoot(scene, after: before)
            let silent = try #require(try silence(scene, at: bed.a))
            #expect((5...60).contains(silent), "\(silent) s")
            #expect(try scene.pair.status(bed.a, Scene.vm)?.pid == scene.guest.pid)
        }
    }

    /// An agent that is stopped in the guest, and a guest that is paused, are no hangs.
    @Test func whatIsNoHangIsLeftAlone() async throws {
        try await Bed.with { bed in
            let scene = try await scene(on: bed)
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            try await waitUntilHeard(scene, at: bed.a)
            let before = try #require(control(scene).boot())
            let monitor = try scene.testMonitor()
            defer { monitor.close() }
            _ = try monitor.execute("stop")
            try await Task.sleep(for: .seconds(14))
            _ = try monitor.execute("cont")
            try await Task.sleep(for: .seconds(3))
            try control(scene).shell("kill $(pidof guest-agent)")
            try await eventually("it is said", within: .seconds(20)) {
                try events(scene, at: bed.a, "state").contains("the guest agent ended") ? true : nil
            }
            try await Task.sleep(for: .seconds(8))
            #expect(try events(scene, at: bed.a, "guest_hung").isEmpty && control(scene).boot() == before)
            try control(scene).shell("/bin/guest-agent > /dev/null 2>&1 &")
            try await waitUntilHeard(scene, at: bed.a, times: 2)
        }
    }

    /// Its port has another path there, and nobody said which.
    @Test func aGuestThatWentOnAtTheStandbyIsListenedToThere() async throws {
        try await Bed.with { bed in
            let scene = try await scene(on: bed)
            try await scene.pair.protect(scene.guest)
            try await waitUntilHeard(scene, at: bed.a)
            try bed.a.cutPower()
            try await scene.pair.wait(bed.b, Scene.vm, for: "running", within: .seconds(60))
            try await waitUntilHeard(scene, at: bed.b)
            let before = try #require(control(scene).boot())
            try control(scene).hang()
            try await waitForBoot(scene, after: before)
            #expect(try events(scene, at: bed.b, "guest_hung").contains("its guest agent has not answered for "))
        }
    }

    @Test func aGuestWithoutAPortIsToldOfAndProtected() async throws {
        try await Bed.with { bed in
            let scene = try await scene(on: bed, hasPort: false)
            try await scene.pair.protect(scene.guest, ["--level", "restart"])
            let told = try events(scene, at: bed.a, "error")
            #expect(told.contains("its QEMU has no port “org.qemu.guest_agent.0”"), "\(told)")
        }
    }
}
