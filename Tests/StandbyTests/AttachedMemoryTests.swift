import Fakes
import Foundation
import Messages
import Model
import Standby
import Testing

/// Memory that is attached to a replica of disks, and detached from it.
@Suite struct AttachedMemoryTests {
    private let scene: ReplicaScene
    private let blocks: [RAMBlock]
    private let nics: [OfferedNIC]

    init() throws {
        scene = try ReplicaScene()
        (blocks, nics) = (scene.offer.blocks, scene.offer.nics)
        scene.offer.session.level = .restart
        (scene.offer.blocks, scene.offer.nics) = ([], [])
    }

    private func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: scene.memoryDirectory).sorted()
    }

    private static let ofDisks = ["device-state", "manifest.json"]

    /// As an agent that is killed leaves it.
    private func abandon(_ replica: Replica, at epoch: UInt64) throws {
        try replica.noteApplied(Epoch(epoch), deviceState: [UInt8(epoch)])
        for disk in replica.disks { try disk.image.close() }
    }

    @Test func itComesAndGoesBesideTheDisks() throws {
        let replica = try scene.make()
        try replica.noteApplied(Epoch(1), deviceState: [])
        for round in 0..<2 {
            try replica.attachMemory(blocks, nics)
            #expect(replica.qemuPID == Int32(4000 + round) && replica.baseBytes == 0)
            #expect(replica.memory?.target(0)?.allSatisfy { $0 == 0 } == true)
            #expect(replica.memory?.target(1)?.count == Int(ReplicaScene.videoBytes))
            #expect(replica.slots.count == StageFiles.count && scene.exists("ram.memory") && scene.exists("block-1"))
            replica.memory?.target(0)?[7] = 7
            try replica.detachMemory()
            #expect(replica.memory == nil && replica.slots.isEmpty && replica.qemuPID == 0)
            #expect(try files() == Self.ofDisks && scene.bases.bytes == 0)
            #expect(scene.standbys.guests.allSatisfy { $0.ending != nil })
            #expect(replica.disks.count == 1 && !scene.imageIsFree)
        }
        try replica.detachMemory()
        #expect(replica.savedDeviceState(before: nil).isEmpty && scene.standbys.guests.count == 2)
    }

    @Test(arguments: [
        (FakeStandbys.Step.start, "the fake refuses to start"), (.outlet, "the fake refuses to outlet"),
    ])
    func whatCannotBeAttachedLeavesTheDisks(at step: FakeStandbys.Step, words: String) throws {
        let replica = try scene.make()
        scene.standbys.failing = [step]
        let error = #expect(throws: SessionError.self) { try replica.attachMemory(blocks, nics) }
        #expect(error?.message == words)
        #expect(try files() == Self.ofDisks && replica.qemuPID == 0 && replica.memory == nil && replica.slots.isEmpty)
        #expect(scene.standbys.guests.allSatisfy { $0.ending != nil } && !scene.imageIsFree)
        try abandon(replica, at: 1)
        #expect(try scene.recover().memory == nil)
        scene.standbys.failing = []
        try replica.attachMemory(blocks, nics)
        #expect(throws: SessionError.self) { try replica.attachMemory(blocks, nics) }
        #expect(replica.memory != nil && scene.exists("slot-0"), "a second one costs nothing")
    }

    @Test func aBlockThatTheCommandDoesNotNameIsRefused() throws {
        let replica = try scene.make()
        var other = blocks
        other[0].name = "other"
        #expect(throws: SessionError.self) { try replica.attachMemory(other, nics) }
        #expect(try files() == Self.ofDisks && scene.standbys.guests.isEmpty)
    }

    @Test func anOlderMemoryIsItsBase() throws {
        scene.offer.session.level = .system
        (scene.offer.blocks, scene.offer.nics) = (blocks, nics)
        let first = try scene.make()
        first.memory?.target(0)?[5] = 6
        first.dismantle(keepingMemory: true)
        let bytes = ReplicaScene.ramBytes + ReplicaScene.videoBytes
        #expect(scene.bases.bytes == bytes)

        scene.offer.session.level = .restart
        (scene.offer.blocks, scene.offer.nics) = ([], [])
        // At that level what is kept is of no use, and stays for the level above.
        let replica = try scene.make()
        scene.standbys.failing = [.start]
        #expect(throws: SessionError.self) { try replica.attachMemory(blocks, nics) }
        #expect(try scene.bases.bytes == bytes && files() == Self.ofDisks)
        scene.standbys.failing = []
        try replica.attachMemory(blocks, nics)
        #expect(replica.baseBytes == bytes && scene.bases.bytes == 0 && replica.memory?.target(0)?[5] == 6)
        #expect(!scene.exists("base"))
    }

    // MARK: - The guest goes on

    @Test func theGuestIsLoadedWithWhatWasAttached() throws {
        let replica = try scene.make()
        try replica.attachMemory(blocks, nics)
        try replica.noteApplied(Epoch(3), deviceState: [9])
        try replica.load(from: Epoch(3), deviceState: [9])
        let report = try replica.run(from: Epoch(3), outputs: [], decidedAt: 0)
        #expect(!report.isStarted && !report.isBooted && report.qemuPID == 4000)
        replica.forgetStaging()
        #expect(scene.bases.lent == [scene.offer.vm])
    }

    /// What the replica has of its memory may be behind the disks.
    @Test func aGuestThatIsStartedHasFreshMemory() throws {
        let replica = try scene.make()
        try replica.attachMemory(blocks, nics)
        replica.memory?.target(0)?[4096] = 1
        let report = try replica.start(from: Epoch(1), outputs: [], decidedAt: 0)
        #expect(report.isStarted && !report.isBooted && scene.standbys.runningAtBoot == 0)
        #expect(scene.standbys.memoryAtBoot == [ReplicaScene.ramBytes] && scene.standbys.memoryWasFresh)
        let guests = scene.standbys.guests
        #expect(guests.count == 2 && guests[0].ending != nil && guests[1].deeds == [.run])
        #expect(!scene.exists("slot-0") && !scene.exists("block-1"))
        #expect(Replica.resumed(in: scene.memoryDirectory)?.pid == guests[1].pid)
    }

    // MARK: - A restart of the agent

    @Test func aReplicaIsTakenUpWithItsMemory() throws {
        let first = try scene.make()
        try first.attachMemory(blocks, nics)
        first.memory?.target(0)?[9] = 8
        try abandon(first, at: 3)
        let replica = try scene.recover()
        #expect(replica.appliedEpoch == Epoch(3) && replica.qemuPID == 4000 && replica.slots.count == StageFiles.count)
        #expect(replica.memory?.target(0)?[9] == 8 && replica.offer.nics.map(\.netdev) == nics.map(\.netdev))
        try replica.load(from: Epoch(3), deviceState: replica.savedDeviceState(before: nil))
        #expect(scene.standbys.ended.isEmpty)
    }

    /// Also one that was of a level that holds output.
    @Test func aReplicaIsTakenUpWithoutTheMemoryThatItHad() throws {
        scene.offer.session.level = .system
        (scene.offer.blocks, scene.offer.nics) = (blocks, nics)
        let first = try scene.make()
        try first.detachMemory()
        #expect(try files() == Self.ofDisks)
        try abandon(first, at: 7)
        // Of what was attached next, the agent did not live to see the end.
        try Data(count: 9).write(to: URL(fileURLWithPath: "\(scene.memoryDirectory)/slot-0"))
        let replica = try scene.recover()
        #expect(replica.appliedEpoch == Epoch(7) && replica.memory == nil && replica.slots.isEmpty)
        // The one that was ended may have lived when its agent was killed.
        #expect(replica.qemuPID == 0 && scene.standbys.ended == [4000] && scene.standbys.guests.count == 1)
        #expect(try files() == Self.ofDisks)
        #expect(try replica.start(from: Epoch(7), outputs: [], decidedAt: 0).isStarted)
    }
}
