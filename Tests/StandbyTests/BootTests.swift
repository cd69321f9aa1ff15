import Fakes
import Foundation
import GuestNetwork
import Model
import Standby
import Storage
import Testing

/// A replica whose guest takes no state, and is booted from the disk.
@Suite struct BootTests {
    private let scene: ReplicaScene

    init() throws { scene = try ReplicaScene() }

    private func held(_ bytes: [UInt8]) -> HeldOutput {
        var output = HeldOutput(nic: 0, epoch: Epoch(3))
        (output.bytes, output.frames) = (bytes, 1)
        return output
    }

    /// With everything of epoch 3 in it, and a QEMU that refused its state.
    private func refused() throws -> Replica {
        scene.standbys.failing = [.load]
        let replica = try scene.make()
        try replica.noteApplied(Epoch(3), deviceState: [9])
        try [UInt8]([7, 7]).withUnsafeBytes { try replica.disk(0).writeThrough(offset: 4096, data: $0) }
        #expect(throws: SessionError.self) { try replica.load(from: Epoch(3), deviceState: [9]) }
        scene.standbys.failing = []
        return replica
    }

    @Test func itsFramesLeaveOnceTheOneThatFailedIsGoneAndBeforeItRuns() throws {
        let replica = try refused()
        let report = try replica.boot(from: Epoch(3), outputs: [held([1]), held([2])], decidedAt: 0)
        let guests = scene.standbys.guests
        #expect(guests.count == 2 && scene.standbys.runningAtBoot == 0)
        #expect(guests[0].deeds.contains(.kill) && !guests[0].deeds.contains(.run))
        #expect(guests[1].deeds == [.send(nic: "nic0", [1]), .send(nic: "nic0", [2]), .run])
        #expect(report.isBooted && report.epoch == Epoch(3) && report.framesReleased == 2)
        #expect(report.qemuPID == guests[1].pid && replica.qemuPID == guests[1].pid)
        // A restarted agent finds the one that runs.
        #expect(Replica.resumed(in: scene.memoryDirectory)?.pid == guests[1].pid)
        #expect(scene.imageIsFree)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: scene.imagePath))
        #expect(bytes[4096] == 7 && bytes[4097] == 7)

        replica.forgetStaging()
        #expect(guests[1].deeds.suffix(3) == [.forgetSharing, .removeOutlet(nic: "nic0"), .close])
    }

    @Test(arguments: [FakeStandbys.Step.boot, .outlet, .run])
    func whatFailsToBootIsEndedAndCanBeTriedAgain(at step: FakeStandbys.Step) throws {
        let replica = try refused()
        scene.standbys.failing = [step]
        let error = #expect(throws: SessionError.self) {
            try replica.boot(from: Epoch(3), outputs: [held([1])], decidedAt: 0)
        }
        #expect(
            error?.message
                == "web cannot be booted from its disk as of epoch 3, which stays as it is: the fake refuses to \(step)"
        )
        #expect(scene.standbys.guests.allSatisfy { $0.ending != nil && !$0.deeds.contains(.run) })
        scene.standbys.failing = []
        #expect(try replica.boot(from: Epoch(3), outputs: [], decidedAt: 0).isBooted)
    }

    /// I22: nothing is booted from an image whose last flush failed.
    @Test func anImageThatCannotBeFlushedIsNotBootedFrom() throws {
        let replica = try refused()
        try FileManager.default.removeItem(atPath: scene.imagePath)
        let error = #expect(throws: SessionError.self) {
            try replica.boot(from: Epoch(3), outputs: [], decidedAt: 0)
        }
        #expect(error?.message.contains("a flush of \(scene.imagePath) failed") == true)
        // It is not asked a second time.
        try scene.makeImage()
        let again = #expect(throws: SessionError.self) {
            try replica.boot(from: Epoch(3), outputs: [], decidedAt: 0)
        }
        #expect(again?.message.contains("what it holds is not known") == true)
        #expect(scene.standbys.guests.count == 1)
    }

    /// The agent ended after QEMU had the state, and QEMU after that.
    @Test func aReplicaThatWasLoadedBeforeARestartIsBootedToo() throws {
        let first = try scene.make()
        try first.noteApplied(Epoch(6), deviceState: [6])
        for disk in first.disks { try disk.image.close() }
        scene.standbys.isLoaded = true
        let replica = try scene.recover()
        #expect(try replica.boot(from: Epoch(6), outputs: [], decidedAt: 0).isBooted)
        #expect(scene.standbys.guests.last?.deeds == [.run])
    }
}
