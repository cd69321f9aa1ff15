import Foundation

/// Which socket lies at a monitor's path. A QEMU that is started anew makes another one.
struct MonitorFile: Equatable, Sendable {
    private let inode: UInt64
    private let changed: Int64
    private let changedNanoseconds: Int

    /// Nil when nothing is there.
    init?(_ path: String) {
        var found = stat()
        guard stat(path, &found) == 0 else { return nil }
        inode = UInt64(found.st_ino)
        changed = Int64(found.st_ctim.tv_sec)
        changedNanoseconds = found.st_ctim.tv_nsec
    }
}
