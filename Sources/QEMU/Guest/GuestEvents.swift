import Glibc
import Hypervisor

/// What a guest's QEMU told and nobody has taken yet, without the effects of our own commands.
final class GuestEvents {
    private let monitor: QMPConnection
    private let errors: DiskErrors
    /// At most one for each disk.
    private var faults: [DiskFault] = []
    private var events: [QMPEvent] = []
    /// A removable medium came or went: another one may be read in another way. QEMU tells of it before it stops for a checkpoint
    /// that has it.
    private(set) var hasMovedMedia = false

    init(_ monitor: QMPConnection, _ disks: [GuestDisk]) {
        self.monitor = monitor
        errors = DiskErrors(disks)
    }

    /// The next one of those that were heard of.
    func takeDiskFault() -> DiskFault? { faults.isEmpty ? nil : faults.removeFirst() }

    /// Takes in what came.
    func hear() throws(QMPError) {
        let heard = try monitor.takeEvents()
        if heard.contains(where: { $0.name == "DEVICE_TRAY_MOVED" }) { hasMovedMedia = true }
        for fault in heard.compactMap(errors.fault) where !faults.contains(where: { $0.disk == fault.disk }) {
            faults.append(fault)
        }
        events += heard
    }

    /// Removes the event that our command caused; false when there is none. QEMU stamps events with this host's wall clock, in
    /// microseconds, so one older than `sentAt` is somebody else's.
    func takeOwn(_ name: String, since sentAt: Int64) throws(QMPError) -> Bool {
        try hear()
        guard let index = events.lastIndex(where: { $0.name == name && $0.timestamp >= sentAt }) else { return false }
        events.remove(at: index)
        return true
    }

    /// Removes events; false when there were none.
    @discardableResult
    func remove(where isMeant: (QMPEvent) -> Bool) throws(QMPError) -> Bool {
        try hear()
        let count = events.count
        events.removeAll(where: isMeant)
        return events.count < count
    }

    /// What happened since the last look; `mirrors` tell of their own ends.
    func takeNews(_ mirrors: [QEMUDiskTap]) -> [GuestNews] {
        // A monitor that broke is noticed by the process's end, or by the next command.
        try? hear()
        defer { events = [] }
        return events.compactMap { event in
            switch event.name {
            case "SHUTDOWN": .shutdown(event.data["reason"]?.string)
            case "STOP": .paused
            case "RESUME": .resumed
            case "RESET": .reset
            case "WATCHDOG": .hung(event.data["action"]?.string ?? "unknown")
            case "VSERPORT_CHANGE":
                .portChanged(event.data["id"]?.string ?? "", isOpen: event.data["open"]?.bool ?? false)
            case "DEVICE_DELETED": .deviceRemoved
            default: mirrors.lazy.compactMap { $0.failure(event) }.first.map { .mirrorFailed($0) }
            }
        }
    }

    /// As events are stamped.
    static func now() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }
}
