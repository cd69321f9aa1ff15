import Fakes
import Foundation
import GuestNetwork
import Hypervisor
import Messages
import Model
import Standby
import Storage
import Testing

/// A replica with a fake guest: made whole or not at all, loaded, let run, given up, taken up again.
@Suite struct ReplicaTests {
    private let scene: ReplicaScene

    init() throws { scene = try ReplicaScene() }

    private func guest() throws -> FakeStandbyGuest { try #require(scene.standbys.guests.last) }

    private func message(_ body: () throws -> Replica) -> SessionError? {
        do {
            _ = try body()
            return nil
        } catch {
            return error as? SessionError
        }
    }

    // MARK: - Making it

    @Test func itIsMadeOfAllItsParts() throws {
        let replica = try scene.make()
        #expect(replica.qemuPID == 4000 && replica.qmpPath.hasSuffix("/run/qmp.sock"))
        #expect(!replica.recovering && !replica.isLoaded && replica.baseBytes == 0)
        #expect(replica.appliedEpoch == .firstCopy && replica.image.identity == ReplicaScene.identity)
        #expect(replica.slots.count == StageFiles.count && replica.disks.count == 1)
        #expect(replica.memory?.target(0)?.count == Int(ReplicaScene.ramBytes))
        #expect(scene.exists("ram.memory") && scene.exists("block-1") && scene.exists("manifest.json"))
        #expect(!scene.imageIsFree, "the image is its own")
        #expect(replica.command.text.hasPrefix("# a note\n/bin/fake \\\n    -m 1"))
        #expect(throws: SessionError.self) { try replica.disk(1) }
    }

    @Test(arguments: [
        (FakeStandbys.Step.derive, "the fake refuses to derive; twice"),
        (.obstacle, "the fake has an obstacle at beta for alpha"),
        (.memoryFile, "the standby's command line has no memory file for block ram"),
        (.start, "the fake refuses to start"), (.outlet, "the fake refuses to outlet"), (.manifest, ""),
    ])
    func nothingIsLeftOfOneThatFails(at step: FakeStandbys.Step, words: String) throws {
        scene.standbys.failing = [step]
        let error = try #require(message(scene.make))
        #expect(error.code == .refused)
        #expect(error.message.hasPrefix("beta cannot be the standby of web: \(words)"), "\(error)")
        #expect(!FileManager.default.fileExists(atPath: scene.memoryDirectory))
        #expect(scene.imageIsFree)
        #expect(scene.standbys.guests.allSatisfy { $0.deeds == [.kill] })
        #expect(scene.standbys.guests.count == ([.outlet, .manifest].contains(step) ? 1 : 0))
        scene.standbys.failing = []
        _ = try scene.make()
    }

    @Test func atLevelComponentAReplicaIsOfDisksAlone() throws {
        scene.offer.session.level = .component
        let error = try #require(message(scene.make))
        #expect(error.code == .protocolBroken && error.message.contains("at level component"), "\(error)")
        #expect(scene.imageIsFree && scene.standbys.guests.isEmpty)
        (scene.offer.blocks, scene.offer.nics) = ([], [])
        #expect(try scene.make().memory == nil)
        #expect(scene.standbys.guests.isEmpty)
    }

    @Test func anImageOfAnotherSizeIsRefused() throws {
        try scene.makeImage(bytes: ReplicaScene.diskBytes / 2)
        let error = try #require(message(scene.make))
        #expect(error.message.contains("has 524288 bytes but the guest's disk has 1048576"), "\(error)")
        try FileManager.default.removeItem(atPath: scene.imagePath)
        #expect(try #require(message(scene.make)).message.contains("the image of drive disk0 is not there"))
        #expect(scene.standbys.guests.isEmpty)
    }

    @Test func anOfferOfWhatItsGuestDoesNotHaveIsRefused() throws {
        scene.offer.nics.append(OfferedNIC(index: 5, netdev: "net5"))
        #expect(try #require(message(scene.make)).code == .protocolBroken)
        #expect(try guest().deeds == [.kill])
        scene.offer.nics.removeLast()
        scene.offer.disks[0].id = "disk9"
        #expect(try #require(message(scene.make)).code == .protocolBroken)
        #expect(scene.imageIsFree && !scene.exists("manifest.json"))
    }

    // MARK: - The end of it

    private func held(_ nic: UInt16, _ bytes: [UInt8], frames: Int) -> HeldOutput {
        var output = HeldOutput(nic: nic, epoch: Epoch(3))
        (output.bytes, output.frames) = (bytes, frames)
        return output
    }

    @Test func theGuestGetsWhatItHasNoFileForAndRunsAfterItsFramesLeft() throws {
        let replica = try scene.make()
        replica.memory?.target(0)?[0] = 1
        replica.memory?.target(1)?[4096] = 2
        try replica.noteApplied(Epoch(3), deviceState: [9, 9])
        try replica.load(from: Epoch(3), deviceState: replica.savedDeviceState(before: nil))
        #expect(scene.imageIsFree, "the guest opens its images itself")
        var video = [UInt8](repeating: 0, count: Int(ReplicaScene.videoBytes))
        video[4096] = 2
        #expect(try guest().deeds == [.load([1: video], state: [9, 9])])

        let outputs = [held(0, [7], frames: 1), held(0, [], frames: 0), held(3, [8], frames: 1)]
        let report = try replica.run(from: Epoch(3), outputs: outputs, decidedAt: 0)
        #expect(report.framesReleased == 1 && report.qemuPID == 4000 && report.epoch == Epoch(3))
        #expect(try guest().deeds.dropFirst() == [.send(nic: "nic0", [7]), .run])
        #expect(Replica.resumed(in: scene.memoryDirectory)?.pid == 4000)

        replica.forgetStaging()
        #expect(try guest().deeds.suffix(3) == [.forgetSharing, .removeOutlet(nic: "nic0"), .close])
        #expect(!scene.exists("manifest.json") && scene.bases.lent == [scene.offer.vm])
    }

    @Test func aGuestThatRefusesItsStateIsSaidSo() throws {
        scene.standbys.failing = [.load, .run]
        let replica = try scene.make()
        #expect(throws: SessionError(.qemu, "web cannot be resumed from checkpoint 3: the fake refuses to load")) {
            try replica.load(from: Epoch(3), deviceState: [])
        }
        #expect(throws: SessionError(.qemu, "web was loaded and does not run: the fake refuses to run")) {
            _ = try replica.run(from: Epoch(3), outputs: [], decidedAt: 0)
        }
        replica.endQEMU()
        #expect(replica.qemuEnding != nil)
    }

    @Test func whatIsDismantledLeavesItsMemoryOrNothing() throws {
        try scene.make().dismantle(keepingMemory: false)
        #expect(try guest().deeds == [.kill] && scene.imageIsFree)
        #expect(!FileManager.default.fileExists(atPath: scene.memoryDirectory) && scene.bases.bytes == 0)

        let replica = try scene.make()
        replica.memory?.target(0)?[5] = 6
        replica.dismantle(keepingMemory: true)
        #expect(scene.bases.bytes == ReplicaScene.ramBytes + ReplicaScene.videoBytes)
        // A failed attempt does not cost the base.
        scene.standbys.failing = [.start]
        #expect(message(scene.make) != nil)
        scene.standbys.failing = []
        let next = try scene.make()
        #expect(next.baseBytes == ReplicaScene.ramBytes + ReplicaScene.videoBytes && scene.bases.bytes == 0)
        #expect(next.memory?.target(0)?[5] == 6)
    }

    // MARK: - Taking it up again

    /// What an agent leaves that is killed: its guest waits, its files stay, its locks go.
    private func abandon(at epoch: Epoch?) throws {
        let replica = try scene.make()
        if let epoch { try replica.noteApplied(epoch, deviceState: [UInt8(epoch.number)]) }
        for disk in replica.disks { try disk.image.close() }
    }

    @Test func aRestartedAgentTakesItUp() throws {
        try abandon(at: Epoch(6))
        let replica = try scene.recover()
        #expect(replica.recovering && !replica.isLoaded && replica.appliedEpoch == Epoch(6))
        #expect(replica.qemuPID == 4000 && replica.peer == "alpha" && replica.offer.vm == scene.offer.vm)
        #expect(replica.savedDeviceState(before: nil) == [6] && replica.disks.count == 1)
        #expect(replica.slots.count == StageFiles.count && !scene.imageIsFree)
        try replica.load(from: Epoch(6), deviceState: [6])
        _ = try replica.run(from: Epoch(6), outputs: [], decidedAt: 0)
        #expect(scene.standbys.guests.count == 2)
    }

    @Test func aGuestThatHasItsStateHasItsImages() throws {
        try abandon(at: Epoch(6))
        scene.standbys.isLoaded = true
        let replica = try scene.recover()
        #expect(replica.isLoaded && replica.disks.isEmpty && scene.imageIsFree)
        replica.dismantle(keepingMemory: true)
        #expect(scene.bases.bytes > 0)
    }

    @Test func whatIsOfNoUseIsToldAndItsMemoryKept() throws {
        try abandon(at: nil)
        #expect(try #require(message(scene.recover)).message.hasSuffix("is of no use: no checkpoint was complete"))
        Replica.keepLeftover(scene.offer.vm, scene.memoryDirectory, guests: scene.standbys, scene.bases)
        #expect(scene.standbys.ended == [4000] && scene.bases.bytes > 0)
        #expect(Replica.leftBehind(in: "\(scene.scratch.path)/memory").isEmpty)

        try abandon(at: Epoch(2))
        scene.standbys.failing = [.start]
        #expect(try #require(message(scene.recover)).message.hasSuffix("is of no use: the fake is gone"))
        scene.standbys.failing = []
        let replica = try scene.recover()
        _ = try replica.run(from: Epoch(2), outputs: [], decidedAt: 0)
        for disk in replica.disks { try disk.image.close() }
        #expect(Replica.leftBehind(in: "\(scene.scratch.path)/memory") == [scene.offer.vm])
        #expect(
            try #require(message(scene.recover)).message.hasSuffix(
                "is of no use: the guest was resumed from it already"))
        Replica.keepLeftover(scene.offer.vm, scene.memoryDirectory, guests: scene.standbys, scene.bases)
        #expect(scene.standbys.ended == [4000], "a guest that runs is left alone")
    }
}

/// Parts by themselves.
@Suite struct ReplicaPartTests {
    private let scene: ReplicaScene

    init() throws { scene = try ReplicaScene() }

    /// A replica may be of disks only.
    @Test func disksNeedNoMemoryAndNoGuest() throws {
        let disks = try DiskReplica(scene.offer, scene.places.standby, kept: KeptDigests(), makesMissing: false)
        #expect(!scene.imageIsFree)
        try [1, 2, 3].withUnsafeBytes { try disks.staged.disk(0).writeThrough(offset: 4096, data: $0) }
        disks.close()
        #expect(scene.imageIsFree)
    }

    @Test func memoryNeedsNoGuest() throws {
        let command = try scene.standbys.command(for: scene.offer.guest, scene.places.standby)
        let first = try MemoryReplica(scene.offer, command, scene.places)
        #expect(first.baseBytes == 0 && first.memory.unsharedBlocks.map(\.block) == [1])
        first.giveUp(keepingMemory: true)
        let second = try MemoryReplica(scene.offer, command, scene.places)
        #expect(second.baseBytes == ReplicaScene.ramBytes + ReplicaScene.videoBytes)
        second.giveUp(keepingMemory: false)
        #expect(scene.bases.bytes == 0 && !scene.exists(""))
    }
}
