import Foundation
import Hypervisor
import QEMU
import TestBed

/// What else can take a checkpoint of a running stock QEMU, each by QEMU's own means.
enum Peer: String, CaseIterable {
    /// The floor: stop, save the devices' state, go on. No memory is taken.
    case bare = "bare stop+save+cont"
    /// Migration to a process that drops it, without the shared memory: like `bare`, by the migration thread.
    case ignoreShared = "migrate, x-ignore-shared"
    /// The whole memory each time.
    case migrate = "migrate, all memory"
    /// The guest runs on while its memory is saved, each page before its first write.
    case background = "background-snapshot"
    /// `savevm` into an image in memory.
    case snapshot = "snapshot-save"

    /// How many checkpoints make a round, so that each peer gets some seconds.
    var count: Int {
        switch self {
        case .bare: 150
        case .ignoreShared: 60
        case .migrate: 15
        case .background: 8
        case .snapshot: 4
        }
    }

    private var capabilities: [String] {
        switch self {
        case .bare, .snapshot, .migrate: []
        case .ignoreShared: ["x-ignore-shared"]
        case .background: ["background-snapshot"]
        }
    }

    /// Takes a round of checkpoints.
    /// - Parameter directory: where an image may lie, in memory.
    /// - Returns: the pauses, in milliseconds.
    func measure(_ observer: PauseObserver, directory: String) throws -> [Double] {
        let monitor = observer.monitor
        _ = try monitor.takeEvents()
        switch self {
        case .bare: try bareCheckpoints(monitor)
        case .snapshot: try snapshots(monitor, image: "\(directory)/snapshots.qcow2")
        case .ignoreShared, .migrate, .background:
            try set(capabilities + ["events"], in: monitor)
            for _ in 0..<count {
                try migrateOnce(monitor)
                usleep(20_000)
            }
            try set([], in: monitor)
        }
        let pauses = PauseObserver.pauses(in: try monitor.takeEvents())
        guard pauses.count == count else {
            throw BedError("\(rawValue): \(count) checkpoints were taken, \(pauses.count) pauses were seen")
        }
        return pauses
    }

    private func bareCheckpoints(_ monitor: QMPConnection) throws {
        let capture = try DeviceStateCapture.install(monitor)
        for _ in 0..<count {
            try capture.rewind()
            try monitor.awaitReplies(try monitor.send([DeviceStateCapture.stop, capture.save]))
            try monitor.awaitReply(try monitor.send(DeviceStateCapture.resume))
            usleep(20_000)
        }
        try capture.remove(monitor)
    }

    // MARK: - Migration

    private func set(_ wanted: [String], in monitor: QMPConnection) throws {
        let states = ["x-ignore-shared", "background-snapshot", "events"].map { name -> JSONValue in
            ["capability": .string(name), "state": .bool(wanted.contains(name))]
        }
        try monitor.execute("migrate-set-capabilities", ["capabilities": .array(states)])
        try monitor.execute("migrate-set-parameters", ["max-bandwidth": 10_000_000_000])
    }

    private func migrateOnce(_ monitor: QMPConnection) throws {
        try monitor.execute("migrate", ["uri": "exec:cat >/dev/null"])
        let end = try monitor.waitForEvent(timeout: .seconds(60)) { event in
            event.name == "MIGRATION" && ["completed", "failed"].contains(event.data["status"]?.string)
        }
        guard end?.data["status"]?.string == "completed" else {
            let reason = try monitor.execute("query-migrate")["error-desc"]?.string
            throw BedError("\(rawValue) failed: \(reason ?? "no reason given")")
        }
        if self != .background { try goOn(monitor) }
    }

    /// QEMU says that the migration is completed a moment before it lets the guest go on.
    private func goOn(_ monitor: QMPConnection) throws {
        let end = ContinuousClock.now + .seconds(5)
        while true {
            do throws(QMPError) {
                try monitor.execute("cont")
                return
            } catch {
                guard case .qemu(_, _, let words) = error.reason, words.contains("not finalized"),
                    ContinuousClock.now < end
                else { throw error }
                usleep(100)
            }
        }
    }

    // MARK: - Snapshots

    private func snapshots(_ monitor: QMPConnection, image: String) throws {
        _ = try GuestDisk.create(image, format: .qcow2, mebibytes: 64)
        defer { unlink(image) }
        try monitor.execute(
            "blockdev-add",
            ["driver": "qcow2", "node-name": "snapshots", "file": ["driver": "file", "filename": .string(image)]])
        for _ in 0..<count {
            try job("snapshot-save", ["vmstate": "snapshots"], monitor)
            try job("snapshot-delete", [:], monitor)
        }
        try monitor.execute("blockdev-del", ["node-name": "snapshots"])
    }

    private func job(_ command: String, _ more: [String: JSONValue], _ monitor: QMPConnection) throws {
        let arguments: [String: JSONValue] = ["job-id": "bench", "tag": "bench", "devices": ["snapshots"]]
        try monitor.execute(command, .object(arguments.merging(more) { $1 }))
        let end = try monitor.waitForEvent(timeout: .seconds(60)) { event in
            event.name == "JOB_STATUS_CHANGE" && event.data["status"]?.string == "concluded"
        }
        let failure = try monitor.execute("query-jobs").array?.first?["error"]?.string
        try monitor.execute("job-dismiss", ["id": "bench"])
        guard end != nil, failure == nil else { throw BedError("\(command) failed: \(failure ?? "it did not end")") }
    }
}
