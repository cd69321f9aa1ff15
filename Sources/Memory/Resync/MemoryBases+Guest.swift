import Foundation
import Hypervisor
import LinuxSystem
import Model

/// The memory of a guest that another host goes on with, and whose QEMU here is to be ended.
extension MemoryBases {
    /// A guest is not kept from its end for longer than this, in nanoseconds.
    private static let saveLimit: UInt64 = 20_000_000_000
    private static let pieceSize = 4 << 20

    /// Ends the guest's QEMU. It stands still at once; then its memory, nearly that of the host that won, is saved as the base
    /// of a replica, where there is room and time for it.
    package func end(_ guest: GuestDescription, of vm: VMName, _ process: borrowing PidDescriptor) {
        do throws(SystemError) {
            guard minutes > 0, !lent.contains(vm), hasRoom(guest) else { return try process.kill() }
            try CondemnedProcess.end(process) { [self] pid in save(guest, of: vm, pid) }
        } catch {
            log.error("the QEMU of \(vm) cannot be ended: \(error)")
        }
    }

    private func hasRoom(_ guest: GuestDescription) -> Bool {
        let wanted = guest.trackedBlocks.reduce(0) { $0 + $1.length }
        var info = statvfs()
        guard statvfs(directory, &info) == 0, let available = try? HostMemory.available() else { return false }
        // Some is left for others: this is a convenience.
        return min(UInt64(info.f_bavail) * UInt64(info.f_frsize), available) > wanted + wanted / 4
    }

    private func save(_ guest: GuestDescription, of vm: VMName, _ pid: pid_t) {
        let began = MonotonicClock.now()
        let place = "\(bases)/.saving-\(UUID().uuidString)"
        do {
            try FileManager.default.createDirectory(
                atPath: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            var reader = MemoryReader(pid: pid)
            let piece = try Mapping.anonymous(length: Self.pieceSize)
            for (index, block) in guest.blocks.enumerated() {
                guard block.tracked, let address = block.hostAddress else { continue }
                let name =
                    block.backend.map(GuestRAMBlock.fileName(ofBackend:)) ?? GuestRAMBlock.fileName(ofBlock: index)
                let file = try OwnedDescriptor.open("\(place)/\(name)", O_WRONLY | O_CREAT | O_EXCL)
                guard ftruncate(file.number, off_t(block.length)) == 0 else {
                    throw SystemError(operation: "make", errno: errno, subject: "\(place)/\(name)")
                }
                for offset in stride(from: 0, to: Int(block.length), by: Self.pieceSize) {
                    guard MonotonicClock.now() < began + Self.saveLimit else {
                        throw SystemError(operation: "save", errno: ETIMEDOUT, subject: "the memory of \(vm)")
                    }
                    let length = min(Self.pieceSize, Int(block.length) - offset)
                    let part = UnsafeMutableRawBufferPointer(rebasing: piece.bytes[..<length])
                    try reader.copy(address: address + UInt64(offset), into: part)
                    try Self.write(part, to: file.number, at: offset)
                }
            }
            keep(vm, from: place)
            log.info(
                "the memory of \(vm) is kept: another host goes on with the guest",
                metadata: ["milliseconds": "\((MonotonicClock.now() - began) / 1_000_000)"])
        } catch {
            try? FileManager.default.removeItem(atPath: place)
            log.info("the memory of \(vm) is not kept: \(error)")
        }
    }

    /// Writes what is not zero; the file is all holes before.
    private static func write(_ part: UnsafeMutableRawBufferPointer, to file: Int32, at offset: Int) throws(SystemError)
    {
        var start = 0
        while start < part.count {
            guard !PageDigest.isZero(part.baseAddress! + start) else {
                start += pageSize
                continue
            }
            var end = start + pageSize
            while end < part.count, !PageDigest.isZero(part.baseAddress! + end) { end += pageSize }
            while start < end {
                let count = pwrite(file, part.baseAddress! + start, end - start, off_t(offset + start))
                guard count > 0 else {
                    throw SystemError(operation: "save", errno: errno, subject: "a guest's memory")
                }
                start += count
            }
        }
    }
}
