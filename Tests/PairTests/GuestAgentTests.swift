import Fakes
import Hypervisor
import Model
import Pair
import Testing

/// A guest whose agent is listened to while it is protected, and while it is alone.
@Suite struct GuestAgentTests {
    private func with(
        hasAgent: Bool = true, _ body: (PrimaryScene, FakeAgent) async throws -> Void
    ) async throws {
        let agent = FakeAgent()
        try await PrimaryScene.with { setup in
            setup.options.agentSilenceSeconds = 1
            setup.prepare = { if hasAgent { $0.guest.agent = agent } }
        } _: { scene in
            try await scene.waitUntilProtected()
            try await body(scene, agent)
        }
    }

    private func hangs(_ scene: PrimaryScene) -> [GuestHang] {
        scene.reports.compactMap { if case .guestHung(let hang) = $0 { hang } else { nil } }
    }

    private func waitUntilHeard(_ scene: PrimaryScene) async throws {
        try await scene.wait(for: "the agent's answer") {
            scene.events(.state).contains { $0.hasPrefix("the guest agent answers") }
        }
    }

    /// A standby that says nothing may be lost; so the guest sends, and is acknowledged.
    private func waitSending(_ scene: PrimaryScene, for what: String, _ isSo: () -> Bool) async throws {
        for _ in 0..<500 {
            if isSo() { return }
            scene.guest.send("tick")
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("\(what) did not come: \(scene.reports.suffix(5))")
    }

    @Test func aGuestWhoseAgentFallsSilentIsReset() async throws {
        try await with { scene, agent in
            try await waitUntilHeard(scene)
            #expect(hangs(scene).isEmpty)
            agent.answers = false
            try await waitSending(scene, for: "the reset") { !hangs(scene).isEmpty }
            guard case .agentSilent(let seconds) = hangs(scene).first else { return }
            #expect(seconds >= 1 && scene.guest.count(of: .reset) == 1 && scene.phase == .protected)
            let start = scene.guest.count(of: .lookAtPort)
            agent.isPortOpen = true
            for _ in 0..<75 {
                scene.guest.send("tick")
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(hangs(scene).count == 1 && scene.guest.count(of: .lookAtPort) == start, "it has not answered since")
        }
    }

    @Test func aGuestThatIsAloneIsResetToo() async throws {
        try await with { scene, agent in
            try await waitUntilHeard(scene)
            scene.standby.be(reachable: false)
            scene.standby.hangUp()
            try await scene.waitUntilAlone()
            agent.answers = false
            try await scene.wait(for: "the reset") { scene.guest.count(of: .reset) == 1 && hangs(scene).count == 1 }
        }
    }

    @Test func aGuestWhoseAgentEndsIsLeftAlone() async throws {
        try await with { scene, agent in
            try await waitUntilHeard(scene)
            agent.isPortOpen = false
            scene.guest.tell(.portChanged("other", isOpen: false))
            scene.guest.tell(.portChanged("agent0", isOpen: false))
            try await scene.wait(for: "it is said") {
                scene.events(.state).contains { $0.hasPrefix("the guest agent ended") }
            }
            try await Task.sleep(for: .milliseconds(1500))
            #expect(scene.guest.count(of: .reset) == 0)
        }
    }

    @Test func aGuestThatIsPausedIsLeftAlone() async throws {
        try await with { scene, agent in
            try await waitUntilHeard(scene)
            scene.guest.pauseByOthers()
            agent.answers = false
            try await Task.sleep(for: .milliseconds(2500))
            scene.guest.resumeByOthers()
            agent.answers = true
            try await Task.sleep(for: .milliseconds(1500))
            #expect(scene.guest.count(of: .reset) == 0)
        }
    }

    @Test func aGuestWithoutAnAgentIsToldOfAndProtected() async throws {
        try await with(hasAgent: false) { scene, _ in
            #expect(scene.events(.error).count == 1)
            #expect(scene.events(.error).first?.hasSuffix("it has no port for an agent") == true)
        }
    }

    @Test func nobodyIsAskedUnlessThatIsWanted() async throws {
        let agent = FakeAgent()
        try await PrimaryScene.with {
            $0.prepare = { $0.guest.agent = agent }
        } _: { scene in
            try await scene.waitUntilProtected()
            try await Task.sleep(for: .milliseconds(300))
            #expect(agent.asked == 0 && scene.events(.error).isEmpty)
        }
    }
}
