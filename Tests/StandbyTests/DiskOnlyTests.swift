import Fakes
import Foundation
import Model
import Standby
import Storage
import Testing
import Wire

/// A replica of disks alone, at level `restart`: nothing waits, and the guest is started from them.
@Suite struct DiskOnlyTests {
    private let scene: ReplicaScene

    init() throws {
        scene = try ReplicaScene()
        scene.offer.session.level = .restart
        (scene.offer.blocks, scene.offer.nics) = ([], [])
    }

    private func started(_ replica: Replica) throws -> TakeOverReport {
        try replica.start(from: Epoch(1), outputs: [], decidedAt: 0)
    }

    @Test func itHasNoMemoryAndNothingWaits() throws {
        let replica = try scene.make()
        #expect(replica.memory == nil && replica.slots.isEmpty && replica.baseBytes == 0 && replica.qemuPID == 0)
        #expect(replica.qemuExitDescriptor == -1 && replica.qemuEnding == nil && !replica.isLoaded)
        #expect(replica.disks.count == 1 && !scene.imageIsFree && scene.standbys.guests.isEmpty)
        let files = try FileManager.default.contentsOfDirectory(atPath: scene.memoryDirectory)
        #expect(files.sorted() == ["device-state", "manifest.json"])
        #expect(throws: SessionError.self) { try replica.load(from: Epoch(1), deviceState: []) }
        #expect(!scene.imageIsFree, "what cannot be loaded costs nothing")
        replica.dismantle(keepingMemory: true)
        #expect(scene.imageIsFree && scene.bases.bytes == 0)
        #expect(!FileManager.default.fileExists(atPath: scene.memoryDirectory))
    }

    /// It will be started there.
    @Test(arguments: [
        (FakeStandbys.Step.derive, "the fake refuses to derive; twice"),
        (.obstacle, "the fake has an obstacle at beta for alpha"),
    ])
    func whatStandsInTheWayOfAStartIsToldBeforehand(at step: FakeStandbys.Step, words: String) throws {
        scene.standbys.failing = [step]
        let error = #expect(throws: SessionError.self) { try scene.make() }
        #expect(error?.message == "beta cannot be the standby of web: \(words)")
        #expect(scene.imageIsFree && !FileManager.default.fileExists(atPath: scene.memoryDirectory))
    }

    @Test func moreThanDisksIsRefused() throws {
        scene.offer.blocks = scene.offer.guest.ramBlocks
        let error = #expect(throws: SessionError.self) { try scene.make() }
        #expect(error?.code == .protocolBroken && scene.imageIsFree)
    }

    @Test func theGuestGetsFreshMemoryAndItsImages() throws {
        let replica = try scene.make()
        try [UInt8]([7, 7]).withUnsafeBytes { try replica.disk(0).writeThrough(offset: 4096, data: $0) }
        let report = try started(replica)
        let guest = try #require(scene.standbys.guests.first)
        #expect(report.isStarted && !report.isBooted && report.qemuPID == guest.pid && replica.qemuPID == guest.pid)
        #expect(guest.deeds == [.run] && scene.standbys.guests.count == 1)
        #expect(scene.standbys.memoryAtBoot == [ReplicaScene.ramBytes] && scene.imageIsFree)
        #expect(Replica.resumed(in: scene.memoryDirectory)?.pid == guest.pid)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: scene.imagePath))
        #expect(bytes[4096] == 7 && bytes[4097] == 7)
        replica.forgetStaging()
        // What it has mapped may be the base of a replica of its memory.
        #expect(scene.bases.lent == [scene.offer.vm] && !scene.exists("manifest.json"))
    }

    @Test(arguments: [FakeStandbys.Step.boot, .run])
    func whatFailsToStartLeavesTheImagesAndCanBeTriedAgain(at step: FakeStandbys.Step) throws {
        let replica = try scene.make()
        scene.standbys.failing = [step]
        let error = #expect(throws: SessionError.self) { try started(replica) }
        #expect(
            error?.message
                == "web cannot be started from its disks, which stay as they are: the fake refuses to \(step)")
        #expect(!scene.exists("ram.memory") && replica.qemuPID == 0)
        #expect(scene.standbys.guests.allSatisfy { $0.ending != nil })
        scene.standbys.failing = []
        #expect(try started(replica).isStarted && scene.standbys.memoryAtBoot == [ReplicaScene.ramBytes])
    }

    /// A directory in the place of the memory's file.
    @Test func memoryThatCannotBeMadeIsTold() throws {
        let replica = try scene.make()
        let path = "\(scene.memoryDirectory)/ram.memory"
        try FileManager.default.createDirectory(atPath: "\(path)/x", withIntermediateDirectories: true)
        let error = #expect(throws: SessionError.self) { try started(replica) }
        #expect(error?.message.contains("ram.memory") == true && scene.standbys.guests.isEmpty)
        #expect(try started(replica).isStarted, "it was in the way once")
    }

    /// I22.
    @Test func anImageThatCannotBeFlushedIsNotStartedFrom() throws {
        let replica = try scene.make()
        try FileManager.default.removeItem(atPath: scene.imagePath)
        let error = #expect(throws: SessionError.self) { try started(replica) }
        #expect(error?.message.contains("a flush of \(scene.imagePath) failed") == true)
        #expect(scene.standbys.guests.isEmpty && !scene.exists("ram.memory"))
    }

    @Test func aRestartedAgentTakesItUp() throws {
        let first = try scene.make()
        for disk in first.disks { try disk.image.close() }
        let error = #expect(throws: SessionError.self) { try scene.recover() }
        #expect(error?.message.hasSuffix("is of no use: no checkpoint was complete") == true)
        try first.noteApplied(Epoch(1), deviceState: [])
        let replica = try scene.recover()
        #expect(replica.recovering && replica.appliedEpoch == Epoch(1) && !replica.isLoaded && !scene.imageIsFree)
        #expect(replica.memory == nil && replica.slots.isEmpty && replica.disks.count == 1)
        // Nothing was started but what its predecessor had not let run.
        #expect(scene.standbys.guests.isEmpty && scene.standbys.ended == [0])
        _ = try started(replica)
        #expect(throws: SessionError.self) { try scene.recover() }
    }

    // MARK: - Writes

    private func header(_ type: FrameType, _ epoch: UInt64, _ sequence: UInt32 = 0) -> FrameHeader {
        FrameHeader(type: type, length: 0, epoch: epoch, sequence: sequence, bodyCRC: 0)
    }

    @Test func answersAreOneForWhatIsWrittenAtOnce() throws {
        var writes = ThroughWrites(at: .restart)
        #expect(writes.note(byteCount: 512, isFollowed: true) == nil)
        #expect(writes.note(byteCount: 512, isFollowed: false)?.count == 2)
        #expect(writes.note(byteCount: 512, isFollowed: false)?.count == 3)
        // A stream that never ends is answered for all the same.
        let counts = (0..<64).compactMap { _ in writes.note(byteCount: 512, isFollowed: true)?.count }
        #expect(counts == [19, 35, 51, 67])
        #expect(writes.note(byteCount: 1 << 20, isFollowed: true)?.count == 68)
    }

    @Test func writesFollowTheFirstCopy() throws {
        var writes = ThroughWrites(at: .restart)
        for type in [FrameType.diskWrite, .diskZero] {
            #expect(try writes.place(header(type, 0, 5), hasMemory: false) == .direct)
            #expect(!ThroughWrites.contains(header(type, 0)) && ThroughWrites.contains(header(type, 2)))
        }
        #expect(try writes.place(header(.diskZero, 2), hasMemory: false) == .direct)
        for wrong in [
            header(.diskWrite, 0), header(.diskWrite, 1), header(.diskWrite, 2, 1), header(.diskWrite, 3),
            header(.pages, 0), header(.pages, 2), header(.output, 3),
        ] { #expect(throws: SessionError.self) { try writes.place(wrong, hasMemory: false) } }
        #expect(try writes.place(header(.diskWrite, 2), hasMemory: false) == .direct)
    }

    /// As the dial is turned up and down.
    @Test func writesBelongToCheckpointsWhereTheyAreLaterThanTheLastThatWentThrough() throws {
        var writes = ThroughWrites(at: .restart)
        try writes.begin(Epoch(2), staged: Epoch(0), hasMemory: false)
        #expect(!writes.mustWait(applied: Epoch(0)))
        #expect(throws: SessionError.self) { try writes.place(header(.diskWrite, 0), hasMemory: true) }
        #expect(try writes.place(header(.pages, 0), hasMemory: true) == .direct)
        for (header, place) in [
            (header(.diskWrite, 2), ThroughWrites.Place.direct), (header(.pages, 2, 7), .checkpoint),
            (header(.diskZero, 3, 7), .checkpoint), (header(.output, 3), .checkpoint),
        ] { #expect(try writes.place(header, hasMemory: true) == place) }

        for epoch in [2, 10] as [UInt64] {
            #expect(throws: SessionError.self) { try writes.begin(Epoch(epoch), staged: Epoch(9), hasMemory: true) }
        }
        try writes.begin(Epoch(11), staged: Epoch(8), hasMemory: true)
        #expect(writes.mustWait(applied: Epoch(9)) && !writes.mustWait(applied: Epoch(10)))
        #expect(try writes.place(header(.diskWrite, 11), hasMemory: true) == .direct)
        #expect(try writes.place(header(.deviceState, 10, 3), hasMemory: true) == .checkpoint)
        #expect(throws: SessionError.self) { try writes.place(header(.diskWrite, 10), hasMemory: true) }
        #expect(throws: SessionError.self) { try writes.begin(Epoch(10), staged: Epoch(8), hasMemory: true) }
    }

    @Test func atLevelSystemEveryWriteBelongsToACheckpoint() throws {
        var writes = ThroughWrites(at: .system)
        #expect(try writes.place(header(.diskWrite, 0), hasMemory: true) == .direct)
        #expect(try writes.place(header(.diskWrite, 1), hasMemory: true) == .checkpoint)
        #expect(try writes.place(header(.diskWrite, 2), hasMemory: true) == .checkpoint)
        #expect(!writes.mustWait(applied: Epoch(0)))
    }
}
