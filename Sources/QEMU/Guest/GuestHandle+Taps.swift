import Hypervisor
import LinuxSystem
import Model
import TapDetour

/// What is attached to a guest while it is protected.
extension GuestHandle {
    package func mirror(_ disk: OfferedDisk, to descriptor: Int32, copies: Bool) throws(SessionError) -> any DiskTap {
        do throws(DeviceError) {
            let job = try MirrorJob.start(
                monitor, disk: drives[Int(disk.index)], index: Int(disk.index), target: .descriptor(descriptor),
                copies: copies)
            let tap = QEMUDiskTap(disk, job, self)
            mirrors.append(tap)
            return tap
        } catch {
            throw SessionError(.storage, "disk \(disk.id) of \(vm) cannot be mirrored: \(error)")
        }
    }

    package func serve(_ disk: OfferedDisk, at socket: String) throws(SessionError) -> any ServedTap {
        guard let drive = ServedDrive(drives[Int(disk.index)], index: Int(disk.index)) else {
            throw SessionError(.refused, "disk \(disk.id) of \(vm) is used by no device, so it cannot be served")
        }
        do throws(DeviceError) {
            try drive.serve(monitor, at: socket)
        } catch {
            throw process.failed(with: "disk \(disk.id), which was to be served by another process", error)
        }
        return QEMUServedTap(drive, disk, self)
    }

    package func leftServed() throws(SessionError) -> [UInt16] {
        do throws(QMPError) {
            return try ServedDrive.present(monitor).compactMap { UInt16(exactly: $0) }
        } catch {
            throw process.failed(to: "list its disks that are served", error)
        }
    }

    /// Turns the disks back that an earlier agent left served. Their servers answer by now.
    func removeLeftServed() throws(SessionError) {
        let left = try leftServed().filter { Int($0) < drives.count }
        guard !left.isEmpty else { return }
        try whileStopped(for: .detach) { () throws(SessionError) in
            for index in left {
                guard let drive = ServedDrive(drives[Int(index)], index: Int(index)) else { continue }
                try QEMUServedTap(drive, offeredDisks[Int(index)], self).remove(isWhole: true)
                log.warning("\(vm): an earlier session left disk \(drives[Int(index)].name) served")
            }
        }
    }

    package func tap(_ nic: OfferedNIC) throws(SessionError) -> any NICTap {
        let described = description.nics[Int(nic.index)]
        if described.holding == .tap, let interface = described.interface {
            do throws(DetourError) {
                return QEMUDetour(try Detour(of: interface), nic, process, log)
            } catch {
                throw SessionError(
                    .system, "the output of NIC \(nic.netdev) of \(vm) cannot be held at \(interface): \(error)")
            }
        }
        do throws(DeviceError) {
            return QEMUNICTap(
                try OutputFilter.install(monitor, netdev: nic.netdev, index: Int(nic.index), holding: true), nic, self)
        } catch {
            throw process.failed(with: "the output of NIC \(nic.netdev)", error)
        }
    }

    package func followMemory(purpose: String, isHelped: Bool) throws(SessionError) -> any GuestMemory {
        do {
            var tracker = try MemoryTracker(attachingTo: pid)
            for block in trackedBlocks { try tracker.track(block) }
            if isHelped, ReadingHelper.pays {
                tracker.helper = try ReadingHelper(pid: pid, name: "copy-\(vm)", runsMax: TrackedMemory.copiedPagesMax)
            }
            return TrackedMemory(tracker)
        } catch let error as AttachError {
            throw SessionError(.refused, "\(vm) cannot be \(purpose): \(error)")
        } catch {
            throw SessionError(.system, "\(vm) cannot be \(purpose): \(error)")
        }
    }
}

final class QEMUDiskTap: DiskTap {
    private let disk: OfferedDisk
    private let job: MirrorJob
    private unowned let guest: GuestHandle
    /// QEMU has the server's end too.
    private var isHeld = false

    init(_ disk: OfferedDisk, _ job: MirrorJob, _ guest: GuestHandle) {
        self.disk = disk
        self.job = job
        self.guest = guest
    }

    func progress() throws(SessionError) -> Double {
        let now: MirrorJob.Progress?
        do throws(DeviceError) {
            now = try job.progress(guest.monitor)
        } catch {
            throw guest.process.failed(with: "the mirror of disk \(disk.id)", error)
        }
        guard let now else {
            throw SessionError(.storage, "the mirror of disk \(disk.id) ended by itself; see QEMU's log")
        }
        // Until it is ready, all that is known may be copied and more be to come.
        return now.isReady ? 1 : min(Double(now.offset) / Double(max(now.length, 1)), 0.999)
    }

    /// Why the mirror is over, if `event` says so.
    func failure(_ event: QMPEvent) -> String? {
        switch job.news(event) {
        case .failed(let reason): "the mirror of disk \(disk.id) failed: \(reason)"
        case .cancelled: "the mirror of disk \(disk.id) was cancelled by somebody else"
        case .ready, nil: nil
        }
    }

    func hold(_ descriptor: Int32) throws(SessionError) {
        do throws(DeviceError) {
            try job.hold(guest.monitor, descriptor)
            isHeld = true
        } catch {
            throw guest.process.failed(with: "the mirror of disk \(disk.id)", error)
        }
    }

    func letGo() {
        guard isHeld else { return }
        isHeld = false
        job.letGo(guest.monitor)
    }

    func remove() throws(SessionError) {
        guest.mirrors.removeAll { $0 === self }
        letGo()
        do throws(DeviceError) {
            try job.cancel(guest.monitor)
        } catch {
            throw guest.process.failed(with: "the mirror of disk \(disk.id)", error)
        }
    }
}

final class QEMUServedTap: ServedTap {
    private let drive: ServedDrive
    private let disk: OfferedDisk
    private unowned let guest: GuestHandle

    init(_ drive: ServedDrive, _ disk: OfferedDisk, _ guest: GuestHandle) {
        self.drive = drive
        self.disk = disk
        self.guest = guest
    }

    func remove(isWhole: Bool) throws(SessionError) {
        let path = guest.drives[Int(disk.index)].path(from: guest.description.workingDirectory)
        do throws(DeviceError) {
            if isWhole, ProcessFiles.hasOpen(path, guest.pid) == false { try drive.renew(guest.monitor, at: path) }
            try drive.remove(guest.monitor)
        } catch {
            throw guest.process.failed(with: "disk \(disk.id), which was to be its own image again", error)
        }
    }
}

final class QEMUNICTap: NICTap {
    private var filter: OutputFilter
    private let nic: OfferedNIC
    private unowned let guest: GuestHandle

    init(_ filter: consuming OutputFilter, _ nic: OfferedNIC, _ guest: GuestHandle) {
        self.filter = filter
        self.nic = nic
        self.guest = guest
    }

    var heldDescriptor: Int32 { filter.heldDescriptor }
    var releaseDescriptor: Int32 { filter.release.number }
    var isDevice: Bool { false }

    func remove() throws(SessionError) {
        do throws(DeviceError) {
            try filter.remove(guest.monitor)
        } catch {
            throw guest.process.failed(with: "the output of NIC \(nic.netdev)", error)
        }
    }
}
