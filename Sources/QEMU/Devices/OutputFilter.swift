import Glibc
import LinuxSystem

/// Two filters on a netdev by which the guest's output is handed to us instead of the network, and let out by us.
///
/// Frames are be32 length and bytes, in both directions. They are given on as they are: when the NIC's tap carries a
/// virtio-net header before each frame, the header is part of it. `heldDescriptor` must be read all the time: while the
/// socket is full QEMU's main loop waits, and the guest with it. Removal is in two steps, so that no frame is lost: after
/// `openGate` the guest's output goes out by itself again, and what was held can still be let out before `remove`.
public struct OutputFilter: ~Copyable {
    static let holdPrefix = "romulus-hold"
    static let releasePrefix = "romulus-release"

    private let index: Int
    private var held: OwnedDescriptor?
    /// Where frames of the guest are read while the gate is shut, not blocking; -1 after `openGate`, and at a standby.
    public private(set) var heldDescriptor: Int32
    /// Frames written here leave by the netdev; not blocking.
    public let release: OwnedDescriptor

    private var holdName: String { "\(Self.holdPrefix)\(index)" }
    private var releaseName: String { "\(Self.releasePrefix)\(index)" }

    private init(index: Int, held: consuming OwnedDescriptor?, release: consuming OwnedDescriptor) {
        self.index = index
        switch consume held {
        case .some(let descriptor):
            heldDescriptor = descriptor.number
            self.held = consume descriptor
        case nil:
            heldDescriptor = -1
            self.held = nil
        }
        self.release = release
    }

    /// Adds the filters to `netdev` (as `GuestNIC.netdev` names it). `index` makes their names unique within the VM.
    /// With `holding` the guest's output goes to `heldDescriptor` from here on; else only `release` is made, which is what a standby
    /// needs to let out the last committed epoch's frames.
    public static func install(
        _ monitor: QMPConnection, netdev: String, index: Int, holding: Bool
    ) throws(DeviceError) -> OutputFilter {
        let hold = "\(holdPrefix)\(index)"
        let name = "\(releasePrefix)\(index)"
        do throws(DeviceError) {
            // Output walks the filters from the last added to the first: the gate must come after what lets frames
            // out, or released frames would meet the gate again.
            let release = try end(monitor, name)
            try filter(monitor, name, netdev, end: "indev")
            guard holding else { return OutputFilter(index: index, held: nil, release: release) }
            let held = try end(monitor, hold)
            try filter(monitor, hold, netdev, end: "outdev")
            return OutputFilter(index: index, held: held, release: release)
        } catch {
            for name in [hold, name] {
                _ = try? monitor.execute("object-del", ["id": .string(name)])
                _ = try? monitor.execute("chardev-remove", ["id": .string(name)])
            }
            throw error
        }
    }

    /// Lets the guest's output go out by itself again. What is still held comes with the returned descriptor, to be read to its end.
    public mutating func openGate(_ monitor: QMPConnection) throws(DeviceError) -> OwnedDescriptor? {
        guard heldDescriptor >= 0 else { return nil }
        do throws(QMPError) {
            try Self.remove(monitor, holdName)
        } catch {
            throw DeviceError(error)
        }
        heldDescriptor = -1
        return held.take()
    }

    /// Takes everything away. Frames written to `release` before were sent.
    public mutating func remove(_ monitor: QMPConnection) throws(DeviceError) {
        _ = try openGate(monitor)
        do throws(QMPError) {
            try Self.remove(monitor, releaseName)
        } catch {
            throw DeviceError(error)
        }
    }

    /// One end of a new socket pair, the other being QEMU's chardev `name`.
    private static func end(_ monitor: QMPConnection, _ name: String) throws(DeviceError) -> OwnedDescriptor {
        let pair = try DeviceError.folding(DescriptorPair.sockets)
        try DeviceError.folding { () throws(SystemError) in try pair.first.setNonBlocking(true) }
        enlarge(pair.first.number)
        enlarge(pair.second.number)
        do throws(QMPError) {
            try monitor.execute("getfd", ["fdname": .string(name)], descriptors: [pair.second.number])
            let address: JSONValue = ["type": "fd", "data": ["str": .string(name)]]
            let backend: JSONValue = ["type": "socket", "data": ["addr": address, "server": false]]
            do throws(QMPError) {
                try monitor.execute("chardev-add", ["id": .string(name), "backend": backend])
            } catch {
                _ = try? monitor.execute("closefd", ["fdname": .string(name)])
                throw error
            }
        } catch {
            throw DeviceError(error)
        }
        return pair.takeFirst()
    }

    /// QEMU's main loop stands still while a socket is full, and the guest with it: room for a burst. Without the right
    /// to exceed the system's limit the socket stays as it is.
    private static func enlarge(_ descriptor: Int32) {
        var size: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func filter(
        _ monitor: QMPConnection, _ name: String, _ netdev: String, end: String
    ) throws(DeviceError) {
        do throws(QMPError) {
            let properties: [String: JSONValue] = [
                "qom-type": "filter-redirector", "id": .string(name), "netdev": .string(netdev), "queue": "rx",
                end: .string(name),
            ]
            try monitor.execute("object-add", .object(properties))
        } catch {
            throw DeviceError(error)
        }
    }

    private static func remove(_ monitor: QMPConnection, _ name: String) throws(QMPError) {
        try monitor.execute("object-del", ["id": .string(name)])
        try monitor.execute("chardev-remove", ["id": .string(name)])
    }

    /// Whether an object or chardev of that name is one of a filter's.
    static func isOurs(_ name: String) -> Bool { name.hasPrefix(holdPrefix) || name.hasPrefix(releasePrefix) }

    /// Takes away what an agent left that ended without `remove`. Until then such a VM's output is lost.
    static func removeLeftovers(_ monitor: QMPConnection) throws(QMPError) -> [String] {
        let objects = try monitor.execute("qom-list", ["path": "/objects"]).array ?? []
        // Gates first, so that no released frame meets one.
        let names = objects.compactMap { $0["name"]?.string }.filter(isOurs).sorted()
        for name in names { try monitor.execute("object-del", ["id": .string(name)]) }
        for device in try monitor.execute("query-chardev").array ?? [] {
            guard let name = device["label"]?.string, isOurs(name) else { continue }
            try monitor.execute("chardev-remove", ["id": .string(name)])
        }
        return names.map { "filter \($0)" }
    }
}
