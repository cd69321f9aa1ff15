import Foundation
import LinuxSystem
import Memory
import Model

/// The slot files of one replica, in its memory directory.
package struct StageFiles {
    /// The primary has no more epochs between capture and link than it has slabs. Their disk writes come ahead of their pages,
    /// and those of one more; the first of them can only be freed when the rest of it was taken in. Two are being applied.
    package static let count = Slab.count + 4
    /// What they take when nothing is staged.
    static let bytesMin = count * StageSlot.growth

    package let slots: [StageSlot]
    /// Of each, in bytes.
    package let capacity: Int

    /// Makes them for a guest with these blocks: an epoch can touch every page and write to disks besides.
    package init(in directory: String, for blocks: [RAMBlock]) throws(SystemError) {
        let capacity = Int(ReplicaMemory.size(of: blocks)) / 50 * 51 + (256 << 20)
        slots = try Self.paths(directory).map { (path) throws(SystemError) in
            try StageSlot(path: path, capacity: capacity)
        }
        self.capacity = capacity
    }

    /// Those that an earlier run of the agent left.
    package init(recovering directory: String, capacity: Int) throws(SystemError) {
        slots = try Self.paths(directory).filter(FileManager.default.fileExists).map { (path) throws(SystemError) in
            try StageSlot(path: path, capacity: capacity, recovering: true)
        }
        self.capacity = capacity
    }

    private static func paths(_ directory: String) -> [String] { (0..<count).map { "\(directory)/slot-\($0)" } }
}
