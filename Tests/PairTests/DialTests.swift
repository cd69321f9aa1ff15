import Fakes
import Hypervisor
import Messages
import Model
import Pair
import Protocol
import Testing

/// The dial, turned within a session.
@Suite struct DialTests {
    private func with(
        at level: Level, _ change: (inout PrimaryScene.Setup) throws -> Void = { _ in },
        _ body: (PrimaryScene) async throws -> Void
    ) async throws {
        try await PrimaryScene.with(
            {
                $0.disks = 1
                $0.options.level = level
                try change(&$0)
            }, body)
    }

    private func levels(_ scene: PrimaryScene) -> [Level] { scene.register.history.map(\.level) }

    /// Until nothing is attached or detached any more.
    private func wait(for level: Level, _ scene: PrimaryScene) async throws {
        try await scene.wait(for: "level \(level.rawValue)") {
            scene.shell.status.level == level && !scene.shell.isTurning
        }
    }

    @Test func upMemoryTravelsAndOutputIsHeld() async throws {
        try await with(at: .restart) { scene in
            try await scene.waitUntilProtected()
            scene.guest.write(3, 7)
            #expect(scene.shell.dial(to: .system) == nil)
            try await wait(for: .system, scene)
            #expect(scene.register.history.map(\.mode) == [.solo, .paired, .paired])
            #expect(levels(scene) == [.restart, .restart, .system])
            #expect(scene.standby.attached.count == 1 && scene.standby.memory[3 * pageSize] == 7)
            try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
            #expect(scene.guest.tapped == 1 && scene.guest.mirrored == 1 && scene.standby.isByEpochs)
            #expect(scene.standby.offers.count == 1, "it is the same session")
            scene.standby.acknowledge(.onDemand)
            let epoch = try await scene.send("held")
            #expect(scene.guest.left().isEmpty)
            scene.standby.acknowledge(.atOnce)
            try await scene.waitUntilLeft(["held"])
            #expect(scene.standby.images[epoch] == scene.guest.memory)
            #expect(scene.events(.dialled).count == 1)
        }
    }

    @Test func downTheGateStandsBeforeOutputFlows() async throws {
        try await with(at: .system) { scene in
            try await scene.waitUntilProtected()
            try await scene.send("before")
            #expect(scene.shell.dial(to: .restart) == nil)
            try await wait(for: .restart, scene)
            #expect(levels(scene) == [.system, .system, .restart])
            #expect(scene.barrier.guests[scene.vm]?.map(\.name) == ["tap0"] && scene.barrier.isOpen(scene.vm))
            #expect(scene.guest.tapped == 0 && scene.guest.mirrored == 1)
            try await scene.wait(for: "the word") { scene.standby.detached == 1 && !scene.standby.isByEpochs }
            let epochs = scene.acknowledged.count
            scene.guest.send("freely")
            try await scene.wait(for: "the frame") { scene.guest.left().contains("freely") }
            #expect(scene.acknowledged.count == epochs, "no checkpoint is taken for it")
        }
    }

    @Test func thereAndBackTwice() async throws {
        try await with(at: .system) { scene in
            try await scene.waitUntilProtected()
            for round in 0..<2 {
                #expect(scene.shell.dial(to: .restart) == nil)
                try await wait(for: .restart, scene)
                scene.guest.write(5, UInt8(10 + round))
                #expect(scene.shell.dial(to: .system) == nil)
                try await wait(for: .system, scene)
                #expect(scene.standby.memory[5 * pageSize] == UInt8(10 + round))
                let epoch = try await scene.send("round \(round)")
                #expect(scene.standby.images[epoch] == scene.guest.memory)
            }
            #expect(scene.standby.offers.count == 1 && scene.failures.isEmpty)
        }
    }

    @Test func aStandbyWithoutRoomLeavesTheLevel() async throws {
        try await with(
            at: .restart, { $0.prepare = { $0.standby.refuseToAttach("there is no room") } },
            { scene in
                try await scene.waitUntilProtected()
                #expect(scene.shell.dial(to: .system) == nil)
                try await scene.wait(for: "the refusal") { scene.shell.status.dialReason != nil }
                let status = scene.shell.status
                #expect(status.level == .restart && status.asked == .system && status.phase == .protected)
                #expect(status.dialReason?.contains("there is no room") == true, "\(status)")
                #expect(levels(scene) == [.restart, .restart] && scene.guest.tapped == 0)
                #expect(scene.barrier.isOpen(scene.vm))
                // It is asked for again where there is room by now.
                scene.standby.refuseToAttach(nil)
                #expect(scene.shell.dial(to: .system) == nil)
                try await wait(for: .system, scene)
            })
    }

    @Test func withoutATapThereIsNoWayDown() async throws {
        try await with(
            at: .system, { $0.hasTaps = false },
            { scene in
                try await scene.waitUntilProtected()
                let refusal = try #require(scene.shell.dial(to: .restart))
                #expect(refusal.contains("NIC nic0 (netdev net0, user)"), "\(refusal)")
                #expect(scene.shell.status.level == .system)
            })
    }

    @Test func aGateThatCannotBePutThereLeavesTheLevel() async throws {
        try await with(at: .system) { scene in
            try await scene.waitUntilProtected()
            scene.barrier.refuse(.noDevice("tap0"))
            #expect(scene.shell.dial(to: .restart) == nil)
            try await scene.wait(for: "the refusal") { scene.shell.status.dialReason != nil }
            #expect(scene.shell.status.level == .system && scene.phase == .protected)
            try await scene.send("held as before")
            try await scene.waitUntilLeft(["held as before"])
        }
    }

    /// Nothing is attached or detached before it is known what the register says.
    @Test func anArbiterThatIsAwayLeavesTheTurnOpen() async throws {
        try await with(at: .restart) { scene in
            try await scene.waitUntilProtected()
            scene.guest.once(at: .tap) { scene.register.be(.losesAnswers) }
            #expect(scene.shell.dial(to: .system) == nil)
            try await scene.wait(for: "the turn") { scene.current?.level == .system }
            scene.guest.send("waits")
            #expect(scene.barrier.guests[scene.vm] != nil && scene.shell.isTurning)
            scene.register.be(.answers)
            try await wait(for: .system, scene)
            try await scene.waitUntilLeft(["waits"])
        }
    }

    @Test func aStandbyThatIsLostMeanwhileEndsTheChange() async throws {
        try await with(
            at: .restart, { $0.reprotection = .manual },
            { scene in
                try await scene.waitUntilProtected()
                scene.guest.once(at: .scan) {
                    scene.standby.be(reachable: false)
                    scene.standby.hangUp()
                }
                #expect(scene.shell.dial(to: .system) == nil)
                try await scene.waitUntilAlone()
                #expect(levels(scene) == [.restart, .restart, .restart] && scene.guest.mirrored == 0)
                try await scene.wait(for: "the gate's end") { scene.barrier.guests[scene.vm] == nil }
            })
    }

    @Test func aGuestThatDiesMeanwhileIsStartedAgain() async throws {
        try await with(at: .restart) { scene in
            try await scene.waitUntilProtected()
            scene.guest.once(at: .scan) { [guest = scene.guest] in guest.die() }
            #expect(scene.shell.dial(to: .system) == nil)
            try await scene.wait(for: "the start") { scene.restarted != nil }
            #expect(scene.current?.level == .restart)
        }
    }

    /// Alone, the register is all that there is to turn; what comes next is paired at that level.
    @Test func aloneItIsTurnedAtOnce() async throws {
        try await with(
            at: .system,
            {
                $0.origin = .wanted
                $0.prepare = { $0.standby.answer(.refuses("not now")) }
            },
            { scene in
                try await scene.wait(for: "the guest alone") { scene.shell.isAlone && !scene.standby.offers.isEmpty }
                #expect(scene.shell.dial(to: .restart) == nil)
                try await scene.wait(for: "the turn") { scene.current?.level == .restart }
                scene.standby.answer(.accepts)
                scene.shell.protect()
                try await scene.waitUntilProtected()
                #expect(scene.standby.offers.last?.session.level == .restart && scene.barrier.isOpen(scene.vm))
            })
    }
}
