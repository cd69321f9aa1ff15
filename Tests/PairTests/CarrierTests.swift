import Carriers
import Fakes
import Hypervisor
import Model
import Pair
import Testing

/// What of a guest a session carries: all of it at level `system`, and any part of it by itself.
@Suite struct CarrierTests {
    /// What is put into the guest and taken out of it, in order.
    private func attaching(_ scene: PrimaryScene) -> [FakeGuest.Call] {
        scene.guest.calls.filter { [.tap, .mirror, .untap, .unmirror].contains($0) }
    }

    @Test func whatIsAttachedIsTakenOutInTheOtherOrder() async throws {
        try await PrimaryScene.with {
            $0.disks = 2
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(attaching(scene) == [.tap, .mirror, .mirror], "a filter is put in while the guest runs")
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            #expect(attaching(scene).dropFirst(3) == [.untap, .unmirror, .unmirror])
        }
    }

    /// Before the guest runs on, and not only once it is decided what follows.
    @Test func aMirrorThatCannotBeginLeavesNothingAttached() async throws {
        try await PrimaryScene.with {
            $0.disks = 2
            $0.prepare = { scene in
                scene.guest.once(at: .mirror) {}
                scene.guest.once(at: .mirror) { scene.guest.fail(at: .mirror, SessionError(.storage, "planted")) }
            }
        } _: { scene in
            try await scene.waitUntilEnded()
            #expect(scene.failures.map(\.code) == [.storage])
            #expect(attaching(scene) == [.tap, .mirror, .mirror, .untap, .unmirror])
            let calls = scene.guest.calls
            let taken = try #require(calls.firstIndex(of: .unmirror))
            let goesOn = try #require(calls.firstIndex(of: .letRunOn))
            #expect(taken < goesOn)
            #expect(scene.guest.mirrored == 0 && scene.guest.tapped == 0 && scene.guest.isRunningNow)
        }
    }

    static let fewer: [Set<CarrierKind>] = [
        [.disks], [.memory], [.output], [.disks, .memory], [.disks, .output], [.memory, .output],
    ]

    @Test(arguments: fewer) func aSessionOfFewerCarriersSeals(_ kinds: Set<CarrierKind>) async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.options.carriers = kinds
            $0.endEpochs(after: 5)
        } _: { scene in
            try await scene.waitUntilProtected()
            #expect(scene.guest.mirrored == (kinds.contains(.disks) ? 1 : 0))
            #expect(scene.guest.tapped == (kinds.contains(.output) ? 1 : 0))
            #expect(scene.guest.count(of: .followMemory) == (kinds.contains(.memory) ? 1 : 0))
            #expect(scene.shell.status.memoryProgress == 1 && scene.shell.status.diskProgress == 1)
            scene.guest.write(3, 7)
            scene.guest.send("a frame")
            try await scene.waitUntilLeft(["a frame"])
            let now = scene.acknowledged.count
            try await scene.wait(for: "three epochs more") { scene.acknowledged.count >= now + 3 }
            #expect(scene.acknowledged.starts(with: (1...3).map { Epoch(UInt64($0)) }))
            // So many epochs may have been under way when the page was written.
            try await scene.wait(for: "the page") {
                let image = scene.acknowledged.last.flatMap { scene.standby.images[$0] }
                return image?[3 * pageSize] == (kinds.contains(.memory) ? 7 : 0)
            }
            #expect(
                scene.standby.output.values.flatMap { $0 } == (kinds.contains(.output) ? ["a frame"] : []))
            scene.shell.unprotect()
            try await scene.waitUntilEnded()
            #expect(scene.failures.isEmpty && scene.guest.isRunningNow && scene.guest.calls.last == .close)
            #expect(scene.guest.mirrored == 0 && scene.guest.tapped == 0)
        }
    }

    /// Without memory nothing is saved: the guest is stopped, and let run on.
    @Test func aGuestWithoutMemoryIsOnlyStopped() async throws {
        try await PrimaryScene.with {
            $0.disks = 1
            $0.options.carriers = [.disks]
            $0.endEpochs(after: 5)
        } _: { scene in
            try await scene.waitUntilProtected()
            try await scene.wait(for: "five epochs") { scene.acknowledged.count >= 5 }
            let saving: [FakeGuest.Call] = [.stopAndSave, .stopAndSaveInOne, .takeDeviceState, .scan, .copy]
            #expect(!scene.guest.calls.contains { saving.contains($0) })
            #expect(scene.guest.count(of: .holdStill) >= 5)
            scene.guest.pauseByOthers()
            try await scene.wait(for: "the pause is noticed") { !scene.events(.qemu).isEmpty }
            #expect(!scene.guest.isRunningNow, "whoever paused it lets it run on")
            scene.guest.resumeByOthers()
            let now = scene.acknowledged.count
            try await scene.wait(for: "it goes on") { scene.acknowledged.count > now }
        }
    }
}
