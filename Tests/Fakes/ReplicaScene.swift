import Foundation
import Hypervisor
import Literals
import Logging
import Memory
import Messages
import Model
import Protocol
import Standby
import Storage

/// A host that is to hold a replica of a small guest: two blocks, one raw disk, one NIC; its guest is a fake.
package final class ReplicaScene {
    package static let diskBytes: UInt64 = 1 << 20
    package static let ramBytes: UInt64 = 256 << 10
    package static let videoBytes: UInt64 = 64 << 10

    package let scratch: Scratch
    package let standbys = FakeStandbys()
    package let bases: MemoryBases
    package var starts = StartRoom()
    package var offer: OfferMessage
    package let log = Logger(label: "replica") { _ in SwiftLogNoOpLogHandler() }

    package var memoryDirectory: String { "\(scratch.path)/memory/web" }
    package var imagePath: String { "\(scratch.path)/disk.raw" }

    package init() throws {
        scratch = try Scratch()
        try FileManager.default.createDirectory(
            atPath: "\(scratch.path)/memory", withIntermediateDirectories: true)
        bases = MemoryBases(in: "\(scratch.path)/memory", minutes: 60, log: log)
        let image = "\(scratch.path)/disk.raw"
        let guest = Self.guest(image)
        offer = OfferMessage(
            session: SessionOffer(
                session: SessionID(11), term: Term(4), lineage: Lineage(5), level: .system,
                primary: NodeName(unchecked: "alpha")),
            vm: VMName(unchecked: "web"), guest: guest, blocks: guest.ramBlocks,
            disks: [OfferedDisk(index: 0, id: "disk0", size: Self.diskBytes)],
            nics: [OfferedNIC(index: 0, netdev: "net0")], tuning: EpochTuning(epochMilliseconds: 25),
            silenceMilliseconds: 1000, silenceFloorMilliseconds: nil, heartbeatMilliseconds: nil, createsImages: nil)
        try makeImage()
    }

    private static func guest(_ image: String) -> GuestDescription {
        GuestDescription(
            process: ProcessIdentity(pid: 1, uid: 0, gid: 0),
            qemu: QEMUVersion(major: 7, minor: 2, micro: 0, package: ""), executable: "/bin/fake",
            arguments: ["/bin/fake"], workingDirectory: "/", guestName: "web", machineType: "fake-1",
            accelerator: .tcg, vcpus: [GuestCPU(index: 0, thread: 1)],
            memorySize: MemorySize(base: ramBytes, plugged: 0),
            blocks: [
                GuestRAMBlock(
                    name: "ram", length: ramBytes, maximum: ramBytes, hostAddress: 1 << 40, regionAddress: 0,
                    tracked: true, backend: "ram"),
                GuestRAMBlock(
                    name: "video", length: videoBytes, maximum: videoBytes, hostAddress: 1 << 41, regionAddress: 0,
                    tracked: true, backend: nil),
            ],
            disks: [
                GuestDisk(
                    name: "disk0", device: "disk0", qdev: nil, node: "node0", format: "raw", file: image,
                    isBlockDevice: false, virtualSize: diskBytes, readOnly: false, removable: false)
            ],
            nics: [
                GuestNIC(
                    name: "nic0", model: "fake", mac: "52:54:00:00:00:01", netdev: "net0", backend: "tap",
                    interface: "tap0")
            ], devices: [])
    }

    package func makeImage(bytes: UInt64 = diskBytes) throws {
        try Data(count: Int(bytes)).write(to: URL(fileURLWithPath: imagePath))
    }

    private var options: StandbyOptions {
        var options = StandbyOptions(runDirectory: "\(scratch.path)/run")
        options.memoryDirectory = memoryDirectory
        return options
    }

    package var places: ReplicaPlaces {
        ReplicaPlaces(
            node: "beta", memoryDirectory: memoryDirectory, runtimeDirectory: "\(scratch.path)/run", standby: options,
            guests: standbys, isRealTime: false, bases: bases, starts: starts)
    }

    package static let identity = StandbyIdentity(node: NodeName(unchecked: "beta"), incarnation: 77)

    package func make() throws -> Replica {
        try Replica(offer: offer, identity: Self.identity, peer: "alpha", places: places, log: log)
    }

    /// As an agent that was started anew.
    package func recover() throws -> Replica {
        let options = options
        return try Replica(
            recovering: memoryDirectory, runtimeDirectory: "\(scratch.path)/run", node: "beta", bases: bases,
            guests: standbys, isRealTime: false, standby: { _ in options }, log: log)
    }

    /// True when nobody holds the image.
    package var imageIsFree: Bool {
        guard let image = try? DiskImage(path: imagePath, format: .raw, expectedSize: nil) else { return false }
        try? image.close()
        return true
    }

    package func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(memoryDirectory)/\(name)") }
}
