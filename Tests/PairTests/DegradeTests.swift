import Fakes
import Messages
import Model
import Pair
import Protocol
import Testing

/// A guest whose epochs are not acknowledged in time falls to the level that can be kept, and climbs back.
@Suite struct DegradeTests {
    private func with(
        after milliseconds: UInt64, _ change: (inout PrimaryScene.Setup) throws -> Void = { _ in },
        _ body: (PrimaryScene) async throws -> Void
    ) async throws {
        try await PrimaryScene.with(
            {
                $0.disks = 1
                $0.options.level = .system
                $0.options.degrade = DegradeMachine.Settings(
                    floor: .restart, after: milliseconds * 1_000_000, targetAfter: 0, retry: 1_000_000_000)
                try change(&$0)
            }, body)
    }

    private func wait(for level: Level, _ scene: PrimaryScene) async throws {
        try await scene.wait(for: "level \(level.rawValue)") {
            let status = scene.shell.status
            return status.level == level && status.phase == .protected && !scene.shell.isTurning
        }
    }

    @Test func itFallsAndClimbs() async throws {
        try await with(after: 1000) { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            try await scene.wait(for: "the turn") { scene.current?.level == .restart }
            #expect(scene.barrier.isOpen(scene.vm), "the gate stands")
            #expect(scene.guest.left().isEmpty, "the last epoch is not at the standby")
            scene.standby.acknowledge(.atOnce)
            try await scene.waitUntilLeft(["held"])
            try await wait(for: .restart, scene)
            try await scene.wait(for: "the word") { scene.events(.degraded).count == 1 }
            let status = scene.shell.status
            #expect(status.isDegraded && status.asked == .system)
            #expect(status.dialReason?.hasPrefix("degraded: the standby has not acknowledged") == true, "\(status)")
            try await wait(for: .system, scene)
            try await scene.wait(for: "the word") { scene.events(.climbed).count == 1 }
            #expect(!scene.shell.status.isDegraded && scene.shell.status.dialReason == nil)
            #expect(scene.standby.offers.count == 1, "it is the same session")
            try await scene.send("held as before")
            try await scene.waitUntilLeft(["held", "held as before"])
        }
    }

    @Test func aStandbyThatTakesNoLastEpochIsGivenUp() async throws {
        try await with(after: 300) { scene in
            try await scene.waitUntilProtected()
            scene.standby.acknowledge(.onDemand)
            try await scene.send("held")
            try await scene.waitUntilLeft(["held"])
            #expect(scene.events(.standbyLost).count == 1 && scene.events(.degraded).count == 1)
            scene.standby.acknowledge(.atOnce)
            try await wait(for: .restart, scene)
            #expect(scene.shell.status.asked == .system)
            try await wait(for: .system, scene)
        }
    }

    @Test func theOperatorsWordEndsIt() async throws {
        try await with(
            after: 1000, { $0.options.degrade.retry = 3_600_000_000_000 },
            { scene in
                try await scene.waitUntilProtected()
                scene.standby.acknowledge(.onDemand)
                try await scene.send("held")
                try await scene.wait(for: "the turn") { scene.current?.level == .restart }
                scene.standby.acknowledge(.atOnce)
                try await wait(for: .restart, scene)
                #expect(scene.shell.dial(to: .system) == nil)
                try await wait(for: .system, scene)
                #expect(scene.shell.degradedFrom == nil && scene.events(.climbed).isEmpty)
            })
    }

    /// Where the lower level cannot be had, what is held stays held.
    @Test func withoutATapItStays() async throws {
        try await with(
            after: 200, { $0.hasTaps = false },
            { scene in
                try await scene.waitUntilProtected()
                scene.standby.acknowledge(.onDemand)
                try await scene.send("held")
                try await Task.sleep(for: .seconds(1))
                #expect(scene.shell.status.level == .system && scene.guest.left().isEmpty)
                scene.standby.acknowledge(.atOnce)
                try await scene.waitUntilLeft(["held"])
            })
    }

    /// It does not wait for a level that this guest cannot have.
    @Test func whatCannotRestAtComponentFallsToRestartAndSaysWhy() async throws {
        try await with(
            after: 1000,
            {
                $0.options.degrade.floor = .component
                $0.options.degrade.retry = 3_600_000_000_000
            },
            { scene in
                try await scene.waitUntilProtected()
                let why = "disk disk0 is a raw image on nothing"
                let beginning = "should it fall, then to level restart, not to component"
                let word = scene.events(.state).first { $0.hasPrefix(beginning) }
                #expect(word?.contains(why) == true, "\(scene.events(.state))")
                scene.standby.acknowledge(.onDemand)
                try await scene.send("held")
                try await scene.wait(for: "the turn") { scene.current?.level == .restart }
                scene.standby.acknowledge(.atOnce)
                try await wait(for: .restart, scene)
                try await scene.wait(for: "the word") { scene.events(.degraded).count == 1 }
                let reason = try #require(scene.shell.status.dialReason)
                #expect(reason.hasPrefix("degraded: the standby has not acknowledged"), "\(reason)")
                #expect(reason.contains("; level component cannot be had: \(why)"), "\(reason)")
            })
    }

    /// What was asked for is remembered by the agent.
    @Test func anEarlierFallIsClimbedFrom() async throws {
        try await with(
            after: 1000,
            {
                $0.options.level = .restart
                $0.options.degradedFrom = .system
            },
            { scene in
                try await scene.waitUntilProtected()
                try await wait(for: .system, scene)
                try await scene.wait(for: "the word") { scene.events(.climbed).count == 1 }
            })
    }
}
