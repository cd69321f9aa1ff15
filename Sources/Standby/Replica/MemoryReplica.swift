import Foundation
import Hypervisor
import LinuxSystem
import Memory
import Messages
import Model

/// A replica's RAM: its files in the memory directory, laid onto the base that an older replica left where there is one, and
/// the room that they take.
package struct MemoryReplica {
    package let memory: ReplicaMemory
    /// Bytes that an older replica left here; the rest was zero at first.
    package let baseBytes: UInt64
    private let vm: VMName
    private let directory: String
    private let bases: MemoryBases

    /// Makes the memory directory anew, and the files in it. When that fails, the base is kept and nothing else.
    ///
    /// - Parameter command: names the files that the guest shares.
    package init(_ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces) throws {
        (vm, directory, bases) = (offer.vm, places.memoryDirectory, places.bases)
        let paths = try Self.paths(offer.blocks, command, directory)
        // Removed with the replica; what an earlier one left behind is of no use any more.
        try? FileManager.default.removeItem(atPath: directory)
        bases.take(vm, as: directory)
        try Self.makeDirectory(directory)
        baseBytes = MemoryBases.fit(
            directory, to: Dictionary(zip(paths, offer.blocks).lazy.filter(\.1.tracked).map { ($0, $1.length) }) { $1 })
        do {
            try Self.makeRoom(for: offer.blocks, present: baseBytes, directory, bases)
            memory = try ReplicaMemory(blocks: offer.blocks, paths: paths, recovering: false)
        } catch {
            Self.giveUp(vm, directory, keepingMemory: baseBytes > 0, bases)
            throw error
        }
    }

    /// As an earlier run of the agent left it.
    init(recovering offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces) throws {
        (vm, directory, bases) = (offer.vm, places.memoryDirectory, places.bases)
        baseBytes = 0
        memory = try ReplicaMemory(
            blocks: offer.blocks, paths: Self.paths(offer.blocks, command, directory), recovering: true)
    }

    /// What the guest that resumed from it has mapped stays, and may be the base of a later replica.
    func lend() { bases.lend(vm, from: directory) }

    /// Removes the memory directory, except for the RAM where that is to be the base of a later replica.
    package func giveUp(keepingMemory: Bool) { Self.giveUp(vm, directory, keepingMemory: keepingMemory, bases) }

    private static func giveUp(_ vm: VMName, _ directory: String, keepingMemory: Bool, _ bases: MemoryBases) {
        if keepingMemory { return bases.keep(vm, from: directory) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    static func makeDirectory(_ path: String) throws(SessionError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw SessionError(.system, "\(path) cannot be made: \(error.localizedDescription)")
        }
    }

    private static func paths(
        _ blocks: [RAMBlock], _ command: StandbyCommand, _ directory: String
    ) throws(SessionError) -> [String] {
        var paths: [String] = []
        for block in blocks {
            if block.inSharedFile {
                guard let file = command.memoryFiles.first(where: { $0.block == block.name }) else {
                    throw SessionError(
                        .refused, "the standby's command line has no memory file for block \(block.name)")
                }
                paths.append(file.path)
            } else {
                paths.append("\(directory)/\(GuestRAMBlock.fileName(ofBlock: Int(block.index)))")
            }
        }
        return paths
    }

    // MARK: - Room

    /// The least room for what one epoch of a burst writes (a reboot, say); a large guest writes more.
    private static let burstMin: UInt64 = 64 << 20

    /// Bytes for a guest's memory, and what arrives of it in a burst.
    static func roomWanted(_ blocks: [RAMBlock]) -> UInt64 {
        let memory = ReplicaMemory.size(of: blocks)
        return memory + UInt64(StageFiles.bytesMin) + max(memory / 8, burstMin)
    }

    /// The RAM must fit now, with a burst beside it: a standby that finds out in the middle of an apply would be none.
    /// Bases of other VMs are given up for it.
    private static func makeRoom(
        for blocks: [RAMBlock], present: UInt64, _ directory: String, _ bases: MemoryBases
    ) throws(SessionError) {
        let wanted = roomWanted(blocks) - present
        let parent = (directory as NSString).deletingLastPathComponent
        while true {
            do throws(SessionError) {
                return try checkRoom(wanted, in: parent)
            } catch {
                guard bases.giveUpOldest() else { throw error }
            }
        }
    }

    static func checkRoom(_ wanted: UInt64, in parent: String) throws(SessionError) {
        var info = statvfs()
        guard statvfs(parent, &info) == 0 else { return }
        let room = UInt64(info.f_bavail) * UInt64(info.f_frsize)
        let mebibytes = { (bytes: UInt64) in "\(bytes >> 20) MiB" }
        guard room >= wanted else {
            throw SessionError(
                .refused,
                "\(mebibytes(wanted)) are needed in \(parent) for its memory and \(mebibytes(room)) are free: give that"
                    + " file system more room (mount -o remount,size=…), or set memory_directory to one that has it")
        }
        let free = (try? HostMemory.available()) ?? .max
        guard free >= wanted else {
            throw SessionError(
                .refused,
                "\(mebibytes(wanted)) are needed for its memory and \(mebibytes(free)) are available on this host")
        }
    }
}
