import Glibc
import Hypervisor
import LinuxSystem

/// Copies a running disk to an NBD server of ours, and every later write before the guest sees it complete.
///
/// Adds to the VM one block node (the NBD client) and one job with its filter node, all named `romulus-…`; `cancel` takes
/// them away. The monitor is given to each call, because it belongs to the thread that calls.
public struct MirrorJob: Hashable, Sendable {
    /// Where QEMU finds the NBD server.
    public enum Target: Hashable, Sendable {
        /// A unix socket that QEMU's user may connect to.
        case path(String)
        /// A connected socket; QEMU gets a copy, and does not connect again when it breaks.
        case descriptor(Int32)
    }

    public struct Progress: Hashable, Sendable, Codable {
        /// Bytes copied and to be copied; both grow with the guest's writes.
        public var offset: UInt64
        public var length: UInt64
        /// All is copied, and stays so.
        public var isReady: Bool
    }

    public static let prefix = "romulus-disk"

    /// The job's name and the NBD node's, for example `romulus-disk0`.
    public let name: String
    private var filter: String { "\(name)-top" }

    /// The node above the disk of that index while it is mirrored.
    static func filter(of index: Int) -> String { MirrorJob(name: "\(prefix)\(index)").filter }

    /// QEMU's own copy of the server's end of its connection.
    private static func peer(of name: String) -> String { "\(name)-peer" }

    /// Has QEMU keep the server's end of the connection open too: nobody who ends closes it then, and requests wait. A monitor's
    /// descriptors stay over the end of its connections (monitor/fds.c: `getfd` to `closefd`).
    func hold(_ monitor: QMPConnection, _ descriptor: Int32) throws(DeviceError) {
        do throws(QMPError) {
            try monitor.execute("getfd", ["fdname": .string(Self.peer(of: name))], descriptors: [descriptor])
        } catch {
            throw DeviceError(error)
        }
    }

    /// When the server's process is gone, its requests fail from here on.
    func letGo(_ monitor: QMPConnection) { _ = Self.letGo(monitor, name) }

    /// False when there was none.
    private static func letGo(_ monitor: QMPConnection, _ name: String) -> Bool {
        (try? monitor.execute("closefd", ["fdname": .string(peer(of: name))])) != nil
    }

    /// Begins to copy `disk` (its top node). `index` makes the names unique within the VM. The server must offer the
    /// export `export` with the disk's size.
    /// - Parameter copies: false where the server has what the disk holds: only later writes go there.
    public static func start(
        _ monitor: QMPConnection, disk: GuestDisk, index: Int, target: Target, export: String = "", copies: Bool = true
    ) throws(DeviceError) -> MirrorJob {
        let job = MirrorJob(name: "\(prefix)\(index)")
        do throws(QMPError) {
            try job.add(monitor, disk, target, export, copies ? "full" : "none")
        } catch {
            throw DeviceError(error)
        }
        return job
    }

    private func add(
        _ monitor: QMPConnection, _ disk: GuestDisk, _ target: Target, _ export: String, _ sync: String
    ) throws(QMPError) {
        let server: JSONValue
        switch target {
        case .path(let path): server = ["type": "unix", "path": .string(path)]
        case .descriptor(let descriptor):
            try monitor.execute("getfd", ["fdname": .string(name)], descriptors: [descriptor])
            server = ["type": "fd", "str": .string(name)]
        }
        var node: [String: JSONValue] = ["driver": "nbd", "node-name": .string(name), "server": server]
        if !export.isEmpty { node["export"] = .string(export) }
        do throws(QMPError) {
            try monitor.execute("blockdev-add", .object(node), timeout: .seconds(30))
        } catch {
            if case .descriptor = target { _ = try? monitor.execute("closefd", ["fdname": .string(name)]) }
            throw error
        }
        do throws(QMPError) {
            try monitor.execute(
                "blockdev-mirror",
                [
                    "job-id": .string(name), "device": .string(disk.node ?? disk.device), "target": .string(name),
                    "sync": .string(sync), "copy-mode": "write-blocking", "filter-node-name": .string(filter),
                ])
        } catch {
            _ = try? monitor.execute("blockdev-del", ["node-name": .string(name)])
            throw error
        }
    }

    /// How far it is; nil when the job has ended by itself.
    public func progress(_ monitor: QMPConnection) throws(DeviceError) -> Progress? {
        do throws(QMPError) {
            for job in try monitor.execute("query-block-jobs").array ?? [] where job["device"]?.string == name {
                return Progress(
                    offset: job["offset"]?.uint64 ?? 0, length: job["len"]?.uint64 ?? 0,
                    isReady: job["ready"]?.bool ?? false)
            }
            return nil
        } catch {
            throw DeviceError(error)
        }
    }

    /// What an event says about this job: it became ready, or it ended.
    public enum News: Hashable, Sendable {
        case ready
        case cancelled
        /// QEMU's reason; empty when it gave none.
        case failed(String)
    }

    /// Nil when the event is about something else.
    public func news(_ event: QMPEvent) -> News? {
        guard event.data["device"]?.string == name else { return nil }
        switch event.name {
        case "BLOCK_JOB_READY": return .ready
        case "BLOCK_JOB_CANCELLED": return .cancelled
        // It is never told to complete, so that an end means that the server or the disk failed.
        case "BLOCK_JOB_COMPLETED": return .failed(event.data["error"]?.string ?? "")
        default: return nil
        }
    }

    /// Waits until all is copied.
    public func awaitReady(_ monitor: QMPConnection, timeout: Duration) throws(DeviceError) {
        if let progress = try progress(monitor), progress.isReady { return }
        switch try awaitNews(monitor, timeout: timeout) {
        case .ready: return
        case .cancelled: throw DeviceError(.jobFailed(job: name, reason: "it was cancelled"))
        case .failed(let reason): throw DeviceError(.jobFailed(job: name, reason: reason))
        case nil: throw DeviceError(.timedOut("the first copy of \(name)"))
        }
    }

    private func awaitNews(_ monitor: QMPConnection, timeout: Duration) throws(DeviceError) -> News? {
        do throws(QMPError) {
            return try monitor.waitForEvent(timeout: timeout, where: { news($0) != nil }).flatMap(news)
        } catch {
            throw DeviceError(error)
        }
    }

    /// Ends the job and takes away its nodes; the disk stays as it is. A job that ended already is no error.
    public func cancel(_ monitor: QMPConnection, timeout: Duration = .seconds(10)) throws(DeviceError) {
        do throws(QMPError) {
            try Self.cancel(monitor, name, timeout: timeout)
        } catch {
            throw DeviceError(error)
        }
    }

    private static func cancel(_ monitor: QMPConnection, _ name: String, timeout: Duration) throws(QMPError) {
        let deadline = ContinuousClock.now + timeout
        do throws(QMPError) {
            try monitor.execute("block-job-cancel", ["device": .string(name), "force": true])
        } catch {
            // DeviceNotActive: there is no such job any more.
            guard case .qemu(_, "DeviceNotActive", _) = error.reason else { throw error }
        }
        // The job lets go of its nodes when it ends, which the list of jobs tells without a race with events.
        while try monitor.execute("query-block-jobs").array?.contains(where: { $0["device"]?.string == name }) == true {
            guard ContinuousClock.now < deadline else {
                throw QMPError(path: monitor.path, reason: .timedOut(command: "block-job-cancel of \(name)"))
            }
            _ = try monitor.waitForEvent(timeout: .milliseconds(50)) { event in
                ["BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED"].contains(event.name)
                    && event.data["device"]?.string == name
            }
        }
        do throws(QMPError) {
            try monitor.execute("blockdev-del", ["node-name": .string(name)])
        } catch {
            let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
            if nodes.contains(where: { $0["node-name"]?.string == name }) { throw error }
        }
    }

    /// Takes away what an agent left that ended without `cancel`.
    static func removeLeftovers(_ monitor: QMPConnection) throws(QMPError) -> [String] {
        let jobs = try monitor.execute("query-block-jobs").array ?? []
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        let names = jobs.compactMap { $0["device"]?.string } + nodes.compactMap { $0["node-name"]?.string }
        let ours = Set(names.filter { $0.hasPrefix(prefix) && !$0.hasSuffix("-top") }).sorted()
        // What waits for a server that is gone would be waited for by whatever ends the job.
        let held = ours.filter { letGo(monitor, $0) }
        // A job whose server is gone ends by itself with the next write; one that is ended under it can take QEMU along (see
        // `GuestHandle.whileStopped`).
        let deadline = ContinuousClock.now + .milliseconds(500)
        while ContinuousClock.now < deadline, try isUnderWay(anyOf: held, monitor) {
            _ = try monitor.waitForEvent(timeout: .milliseconds(50)) { $0.name == "BLOCK_JOB_COMPLETED" }
        }
        for name in ours { try cancel(monitor, name, timeout: .seconds(10)) }
        return ours.map { "mirror \($0)" }
    }

    private static func isUnderWay(anyOf names: [String], _ monitor: QMPConnection) throws(QMPError) -> Bool {
        let jobs = try monitor.execute("query-block-jobs").array ?? []
        return jobs.contains { job in names.contains { job["device"]?.string == $0 } }
    }
}
