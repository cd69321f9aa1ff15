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

    /// Makes the files in the memory directory, which is made anew. When that fails, the base is kept and nothing else.
    ///
    /// - Parameters:
    ///   - command: names the files that the guest shares.
    ///   - joins: the directory is that of a replica of disks alone, which stays as it is.
    package init(
        _ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces, joins: Bool = false
    ) throws {
        (vm, directory, bases) = (offer.vm, places.memoryDirectory, places.bases)
        let paths = try Self.paths(offer.blocks, command, directory)
        // What an earlier one left behind is of no use any more.
        if joins {
            Self.withdraw(vm, directory, keepingMemory: false, bases)
        } else {
            try? FileManager.default.removeItem(atPath: directory)
        }
        try Self.makeDirectory(directory)
        baseBytes = Self.layBase(of: vm, paths, offer.blocks, in: directory, bases)
        do {
            try Self.makeRoom(
                Self.roomWanted(offer.blocks) - baseBytes, besides: places.starts.mostWanted(besides: vm),
                in: directory,
                bases)
            memory = try ReplicaMemory(blocks: offer.blocks, paths: paths, recovering: false)
        } catch {
            if joins {
                Self.withdraw(vm, directory, keepingMemory: baseBytes > 0, bases)
            } else {
                Self.giveUp(vm, directory, keepingMemory: baseBytes > 0, bases)
            }
            throw error
        }
    }

    /// What an older replica left becomes the files at `paths`, where it fits. Returns its bytes.
    private static func layBase(
        of vm: VMName, _ paths: [String], _ blocks: [RAMBlock], in directory: String, _ bases: MemoryBases
    ) -> UInt64 {
        let place = "\(directory)/\(baseName)"
        let found = { (path: String) in "\(place)/\((path as NSString).lastPathComponent)" }
        bases.take(vm, as: place)
        let wanted = zip(paths, blocks).filter(\.1.tracked).map { (found($0), $1.length) }
        let bytes = MemoryBases.fit(place, to: Dictionary(wanted) { $1 })
        for path in paths { _ = rename(found(path), path) }
        try? FileManager.default.removeItem(atPath: place)
        return bytes
    }

    /// As an earlier run of the agent left it.
    init(recovering offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces) throws {
        (vm, directory, bases) = (offer.vm, places.memoryDirectory, places.bases)
        baseBytes = 0
        memory = try ReplicaMemory(
            blocks: offer.blocks, paths: Self.paths(offer.blocks, command, directory), recovering: true)
    }

    /// Removes the memory directory, except for the RAM where that is to be the base of a later replica.
    package func giveUp(keepingMemory: Bool) { Self.giveUp(vm, directory, keepingMemory: keepingMemory, bases) }

    static func giveUp(_ vm: VMName, _ places: ReplicaPlaces, keepingMemory: Bool) {
        giveUp(vm, places.memoryDirectory, keepingMemory: keepingMemory, places.bases)
    }

    private static func giveUp(_ vm: VMName, _ directory: String, keepingMemory: Bool, _ bases: MemoryBases) {
        if keepingMemory { return bases.keep(vm, from: directory) }
        try? FileManager.default.removeItem(atPath: directory)
    }

    // MARK: - Beside a replica of disks alone

    /// Where memory lies that is on its way to a base, or comes from one.
    private static let baseName = "base"

    /// The same in the directory of a replica of disks alone, of which all stays.
    func withdraw(keepingMemory: Bool) { Self.withdraw(vm, directory, keepingMemory: keepingMemory, bases) }

    static func withdraw(_ vm: VMName, _ directory: String, keepingMemory: Bool, _ bases: MemoryBases) {
        let place = "\(directory)/\(baseName)"
        let stays = Set(ReplicaManifest.names + [Replica.stateName, baseName])
        try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] where !stays.contains(name)
        {
            _ = rename("\(directory)/\(name)", "\(place)/\(name)")
        }
        giveUp(vm, place, keepingMemory: keepingMemory, bases)
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

    /// The RAM must fit now, with a burst beside it where epochs are staged: a standby that finds out in the middle of an
    /// apply would be none. Bases are given up for it.
    static func makeRoom(
        _ wanted: UInt64, besides others: UInt64, in directory: String, _ bases: MemoryBases
    ) throws(SessionError) {
        let parent = (directory as NSString).deletingLastPathComponent
        while true {
            do throws(SessionError) {
                return try checkRoom(wanted, besides: others, kept: 0, in: parent)
            } catch {
                guard bases.giveUpOldest() else { throw error }
            }
        }
    }

    /// - Parameters:
    ///   - others: bytes that guests want besides when they are started here.
    ///   - kept: bytes of former replicas' memory that give way.
    static func checkRoom(
        _ wanted: UInt64, besides others: UInt64, kept: UInt64, in parent: String
    ) throws(SessionError) {
        let mebibytes = { (bytes: UInt64) in "\(bytes >> 20) MiB" }
        let besides =
            others > 0 ? " and \(mebibytes(others)) for guests that are started here when their host is lost" : ""
        func check(_ free: UInt64?, _ place: String, _ remedy: String) throws(SessionError) {
            guard let free, free + kept < wanted + others else { return }
            throw SessionError(
                .refused,
                "\(mebibytes(wanted)) are needed \(place) for its memory\(besides), and \(mebibytes(free + kept)) are free: \(remedy)"
            )
        }
        try check(
            freeBytes(in: parent), "in \(parent)",
            "give that file system more room (mount -o remount,size=…), or set memory_directory to one that has it")
        try check(try? HostMemory.available(), "on this host", "free some, or choose another standby")
    }

    /// Of a file system; nil where it does not say: nobody is kept from trying.
    static func freeBytes(in directory: String) -> UInt64? {
        var info = statvfs()
        guard statvfs(directory, &info) == 0 else { return nil }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize)
    }
}
