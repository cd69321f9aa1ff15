import Foundation
import Model
import QEMU

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

/// A short look at a VM's monitor, before a session takes it.
enum MonitorProbe {
    enum Finding: Sendable {
        case ready
        /// There is nothing to protect now; one sentence.
        case absent(String)
        /// There is a QEMU, and it cannot be protected as it is; one sentence.
        case unusable(String)
    }

    /// Asks the QEMU at `path`; blocks, for seconds where somebody else holds the monitor.
    static func look(at path: String) -> Finding {
        do throws(QMPError) {
            let monitor = try QMPConnection(path: path)
            let status = try monitor.execute("query-status")["status"]?.string ?? ""
            if ["inmigrate", "postmigrate", "shutdown"].contains(status) {
                return .absent("the QEMU at \(path) has no guest that runs (\(status))")
            }
            return .ready
        } catch {
            switch error.reason {
            case .noSuchPath, .refused, .closed: return .absent(absence(path))
            default: return .unusable("\(error)")
            }
        }
    }

    static func absence(_ path: String) -> String { "no QEMU listens at \(path): the VM does not run here" }
}
