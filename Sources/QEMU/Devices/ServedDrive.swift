import Glibc
import Hypervisor
import LinuxSystem

/// A disk of a running guest whose device was turned to an NBD server: the property `drive` of the device names the server's node, and
/// the image's own node stays below a read-only one, so that it is neither deleted nor holds the image's locks (bdrv_child_perm:
/// a node without a writer gives its write permission back). Both directions are one `qom-set` (QEMU 6.2, hw/core/qdev-properties-system.c,
/// `set_drive_helper`).
struct ServedDrive {
    static let prefix = "romulus-served"
    private static let keeperPrefix = "romulus-keep"
    private static let imagePrefix = "romulus-image"
    /// QEMU connects anew for so long when the server's process is another one, in seconds.
    private static let patience: Int64 = 600

    let index: Int
    /// Of the device.
    private let path: String
    /// The image's top node.
    private let own: String
    private let disk: GuestDisk
    private var node: String { "\(Self.prefix)\(index)" }
    private var keeper: String { "\(Self.keeperPrefix)\(index)" }

    /// The node that keeps the image's, of a disk that is served by the node of that name; nil for another node.
    static func keeper(of node: String) -> String? {
        node.hasPrefix(prefix) ? keeperPrefix + node.dropFirst(prefix.count) : nil
    }

    /// Nil for a disk that no device uses.
    init?(_ disk: GuestDisk, index: Int) {
        guard let qdev = disk.qdev, let own = disk.node else { return nil }
        self.index = index
        path = qdev.hasPrefix("/") ? qdev : "/machine/peripheral/\(qdev)"
        self.own = own
        self.disk = disk
    }

    /// Call while the guest stands still. A step that fails leaves the device with its image.
    func serve(_ monitor: QMPConnection, at socket: String) throws(DeviceError) {
        do throws(QMPError) {
            try monitor.execute(
                "blockdev-add",
                [
                    "driver": "nbd", "node-name": .string(node), "reconnect-delay": .integer(Self.patience),
                    "server": ["type": "unix", "path": .string(socket)],
                ], timeout: .seconds(10))
            try monitor.execute(
                "blockdev-add",
                ["driver": "raw", "node-name": .string(keeper), "read-only": true, "file": .string(own)])
            try turn(monitor, to: node)
        } catch {
            removeNodes(monitor)
            throw DeviceError(error)
        }
    }

    /// Turns the device back to its image. Call while the guest stands still.
    func remove(_ monitor: QMPConnection) throws(DeviceError) {
        do throws(QMPError) {
            try turn(monitor, to: own)
        } catch {
            throw DeviceError(error)
        }
        removeNodes(monitor)
    }

    /// Puts what lies at `path` by now into the image's place, where QEMU has something else open that lay there before: another
    /// file or device rejoined. The image's node keeps its name; only the one below it is another (blockdev-reopen, QEMU 6.1).
    func renew(_ monitor: QMPConnection, at path: String) throws(DeviceError) {
        guard let nodes = disk.nodes, nodes.count > 1, disk.format == "raw" else {
            throw DeviceError(
                SystemError(
                    operation: "put it below the node of the file that was there", errno: ENOTSUP, subject: path))
        }
        let format = nodes[nodes.count - 2]
        do throws(QMPError) {
            let all = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
            let cache = all.first { $0["node-name"]?.string == format }?["cache"]
            let options: JSONValue = [
                "direct": .bool(cache?["direct"]?.bool ?? false), "no-flush": .bool(cache?["no-flush"]?.bool ?? false),
            ]
            let prefix = "\(Self.imagePrefix)\(index)-"
            let before = all.compactMap { $0["node-name"]?.string }.filter { $0.hasPrefix(prefix) }
            let next = prefix + "\((before.compactMap { Int($0.dropFirst(prefix.count)) }.max() ?? 0) + 1)"
            try monitor.execute(
                "blockdev-add",
                [
                    "driver": .string(disk.storage ?? "file"), "node-name": .string(next), "filename": .string(path),
                    "cache": options,
                ], timeout: .seconds(10))
            try monitor.execute(
                "blockdev-reopen",
                [
                    "options": [
                        [
                            "driver": "raw", "node-name": .string(format), "file": .string(next), "read-only": false,
                            "cache": options,
                        ]
                    ]
                ], timeout: .seconds(10))
            for name in before { _ = try? monitor.execute("blockdev-del", ["node-name": .string(name)]) }
        } catch {
            throw DeviceError(error)
        }
    }

    private func turn(_ monitor: QMPConnection, to node: String) throws(QMPError) {
        try monitor.execute(
            "qom-set", ["path": .string(path), "property": "drive", "value": .string(node)], timeout: .seconds(30))
    }

    private func removeNodes(_ monitor: QMPConnection) {
        for name in [keeper, node] { _ = try? monitor.execute("blockdev-del", ["node-name": .string(name)]) }
    }

    /// The indexes of the disks that are served.
    static func present(_ monitor: QMPConnection) throws(QMPError) -> [Int] {
        let nodes = try monitor.execute("query-named-block-nodes", ["flat": true]).array ?? []
        return nodes.compactMap { $0["node-name"]?.string }.filter { $0.hasPrefix(prefix) }
            .compactMap { Int($0.dropFirst(prefix.count)) }.sorted()
    }
}
