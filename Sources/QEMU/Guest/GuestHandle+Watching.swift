import Hypervisor
import Model

/// What is asked of a guest that nobody protects, or that somebody else paused.
extension GuestHandle {
    /// False when it is paused.
    package func isRunning() throws(SessionError) -> Bool { try runState()["running"]?.bool ?? false }

    /// Somebody else had QEMU send all of it away, to another QEMU or into a file.
    package func isMigratedAway() throws(SessionError) -> Bool { try runState()["status"]?.string == "postmigrate" }

    private func runState() throws(SessionError) -> JSONValue {
        try process.execute("query-status", to: "tell its state")
    }

    /// What it has written to its disks since it was started, in bytes.
    package func writtenDiskBytes() throws(SessionError) -> UInt64 {
        let disks = try process.execute("query-blockstats", to: "tell what was written to its disks").array ?? []
        return disks.reduce(0) { $0 + ($1["stats"]?["wr_bytes"]?.uint64 ?? 0) }
    }
}
