import Foundation
import Hypervisor
import LinuxSystem
import Memory
import Model

/// The memory of a guest that is started from its disks where no replica of its memory is: files of zeros, which it shares.
package struct FreshMemory {
    private let files: [StandbyCommand.MemoryFile]
    private let directory: String
    private let bases: MemoryBases

    package init(_ command: StandbyCommand, _ places: ReplicaPlaces) {
        (files, directory, bases) = (command.memoryFiles, places.memoryDirectory, places.bases)
    }

    /// All of it is reserved: a guest that touched what a full tmpfs does not have would be ended by it.
    package func make() throws {
        try MemoryReplica.makeDirectory(directory)
        try MemoryReplica.makeRoom(files.reduce(0) { $0 + $1.length }, besides: 0, in: directory, bases)
        for file in files {
            let descriptor = try OwnedDescriptor.open(file.path, O_RDWR | O_CREAT | O_TRUNC)
            let code = posix_fallocate(descriptor.number, 0, off_t(file.length))
            guard code == 0 else {
                throw SystemError(operation: "reserve \(file.length) bytes", errno: code, subject: file.path)
            }
        }
    }

    package func remove() { for file in files { try? FileManager.default.removeItem(atPath: file.path) } }
}
