import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// The guest is to go on at the standby.
@Suite struct SwitchoverTests {
    private func with(
        _ manner: FakeStandby.TakingOver, rule: Rule = .arbiter, _ body: (PrimaryScene) async throws -> Void
    ) async throws {
        try await PrimaryScene.with {
            $0.rule = rule
            $0.reprotection = .manual
        } _: { scene in
            scene.guest.saveInOne()
            scene.standby.takeOver(manner)
            try await scene.waitUntilProtected()
            try await scene.send("before")
            scene.guest.write(5, 5)
            try await body(scene)
        }
    }

    @Test(arguments: [Rule.arbiter, .manual(.runAlone), .manual(.freeze)]) func itGoesOn(_ rule: Rule) async throws {
        try await with(.yes, rule: rule) { scene in
            #expect(scene.shell.switchOver() == nil)
            try await scene.waitUntilEnded()
            #expect(scene.standby.takeOvers.map(\.guestStands) == [true])
            #expect(!scene.guest.isAlive && scene.shell.switchover == .done)
            #expect(scene.gaveWay?.register?.owner == FakeNodes.standby)
            #expect(scene.dropped == 0 && scene.guest.left() == ["before"])
            let last = try #require(scene.standby.whole.last)
            #expect(scene.standby.images[last] == scene.guest.cuts.last)
            #expect(scene.guest.cuts.last?[5 * pageSize] == 5, "the standby has all of it")
        }
    }

    /// I34: an arbiter that does not answer is found out before the guest is stopped.
    @Test func anArbiterThatIsAwayIsAskedFirst() async throws {
        try await with(.yes) { scene in
            scene.register.be(.isUnreachable)
            #expect(scene.shell.switchOver() == nil)
            try await scene.wait(for: "the refusal") { scene.shell.switchoverRefusal != nil }
            #expect(scene.shell.switchoverRefusal?.contains("the arbiter would have to agree") == true)
            #expect(scene.standby.takeOvers.isEmpty && scene.guest.isRunningNow && scene.phase == .protected)
            #expect(scene.guest.count(of: .stopAndSave) == 1, "only for its first checkpoint")
        }
    }

    @Test func aStandbyThatDeclinesStaysOne() async throws {
        try await with(.declines("its QEMU is too old")) { scene in
            #expect(scene.shell.switchOver() == nil)
            try await scene.wait(for: "the refusal") { scene.shell.switchoverRefusal != nil }
            #expect(scene.shell.switchoverRefusal == "beta did not go on: its QEMU is too old")
            try await scene.wait(for: "it runs on") { scene.guest.isRunningNow }
            try await scene.send("after")
            try await scene.waitUntilLeft(["before", "after"])
            #expect(scene.phase == .protected)
            // And again, once it can.
            scene.standby.takeOver(.yes)
            #expect(scene.shell.switchOver() == nil)
            try await scene.waitUntilEnded()
            #expect(scene.gaveWay != nil)
        }
    }

    @Test(arguments: [FakeStandby.TakingOver.handsBack("it could not load it"), .hangsUp])
    func aGuestThatComesBackRunsHere(_ manner: FakeStandby.TakingOver) async throws {
        try await with(manner) { scene in
            #expect(scene.shell.switchOver() == nil)
            try await scene.waitUntilAlone()
            #expect(scene.guest.isRunningNow && scene.current?.mode == .solo)
            #expect(scene.current?.owner == FakeNodes.primary)
            scene.guest.send("after")
            try await scene.waitUntilLeft(["before", "after"])
            if case .failed = scene.shell.switchover {} else { Issue.record("it did not fail") }
        }
    }

    /// I34: until it is decided who goes on, the guest runs and nothing of it leaves.
    @Test func aStandbyThatIsLostMeanwhileLeavesItHeld() async throws {
        try await with(.no) { scene in
            #expect(scene.shell.switchOver() == nil)
            try await scene.wait(for: "the question") { scene.standby.takeOvers.count == 1 }
            #expect(!scene.guest.isRunningNow && scene.shell.status.phase == .handingOver)
            scene.register.be(.isUnreachable)
            scene.standby.hangUp()
            try await scene.wait(for: "it runs on") { scene.guest.isRunningNow }
            scene.guest.send("held")
            try await Task.sleep(for: .milliseconds(20))
            #expect(scene.guest.left() == ["before"])
            scene.register.be(.answers)
            try await scene.waitUntilLeft(["before", "held"])
        }
    }

    @Test func withoutAPairThereIsNone() async throws {
        try await PrimaryScene.with {
            $0.prepare = { $0.standby.answer(.saysNothing) }
        } _: { scene in
            try await scene.wait(for: "the offer") { scene.standby.offers.count == 1 }
            #expect(scene.shell.switchOver() == "a switchover needs a pair, and no other change under way")
        }
    }

    @Test func aGuestThatOthersPausedIsNotMoved() async throws {
        try await PrimaryScene.with {
            $0.endEpochs(after: 20)
        } _: { scene in
            try await scene.waitUntilProtected()
            scene.guest.pauseByOthers()
            try await scene.wait(for: "it is noticed") { !scene.events(.qemu).isEmpty }
            #expect(scene.shell.switchOver() == "somebody paused the guest: let it run on first")
            #expect(scene.standby.takeOvers.isEmpty)
        }
    }

    @Test func theStandbysOperatorMayWantIt() async throws {
        try await with(.yes) { scene in
            scene.standby.send(WishMessage(.switchover, reason: "the operator of beta wants it").frame)
            try await scene.waitUntilEnded()
            #expect(scene.events(.request) == ["the operator of beta wants it"])
            #expect(scene.gaveWay != nil)
        }
    }

    @Test func protectionIsNotEndedMeanwhile() async throws {
        try await with(.no) { scene in
            #expect(scene.shell.switchOver() == nil)
            try await scene.wait(for: "the question") { scene.standby.takeOvers.count == 1 }
            scene.shell.unprotect()
            #expect(scene.shell.status.lastError == "protection cannot be ended now")
            #expect(scene.ended == nil && !scene.guest.isRunningNow)
        }
    }
}
