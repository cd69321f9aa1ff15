import Glibc
import Hypervisor
import LinuxSystem
import Logging
import Model

/// The running QEMU as the session's thread drives it: inspection, the commands of a checkpoint, filters.
package final class GuestHandle: Guest {
    package let description: GuestDescription
    package let offeredDisks: [OfferedDisk]
    package let offeredNICs: [OfferedNIC]
    package let blocks: [RAMBlock]
    /// Where the blocks that are tracked lie in the QEMU process.
    package let trackedBlocks: [TrackedBlock]
    /// The guest's drives in the order of `offeredDisks`.
    package let drives: [GuestDisk]
    let monitor: QMPConnection

    package let vm: VMName
    private let process: PidDescriptor
    private var capture: DeviceStateCapture?
    /// Nil where this QEMU refuses it: checkpoints are then made of several commands.
    private var single: SingleCommandSave?
    /// True while a checkpoint of one command is under way.
    private var isSingle = false
    /// When that command was sent.
    private var sentAt: Int64 = 0
    private var layout: DeviceLayout?
    private var checkedLength = 0
    private var checkpoints = 0
    /// Every so manieth checkpoint's devices are compared although the length is that of the one before.
    private static let checkPeriod = 64
    private var pending: Range<UInt64> = 0..<0
    /// Reused for every checkpoint's device state.
    private var stateBuffer: [UInt8] = []
    private var events: [QMPEvent] = []
    /// False when somebody else had paused the guest before we stopped it: then it is not ours to let run on.
    package private(set) var stoppedByUs = false
    /// True after `holdStill`, until the next checkpoint.
    package private(set) var isHeldStill = false
    /// True while the guest stands still because of us.
    private var standsStill = false
    /// How long it does, and why.
    package var standstill = StandstillClock()
    /// It was seen without its memory.
    private var isDying = false
    /// Of its disks that are mirrored.
    var mirrors: [QEMUDiskTap] = []

    /// Whether QEMU's disks may write into guest memory unseen, with what they have begun to read when it is protected.
    package private(set) var mayPinMemory: Bool

    /// The monitor answers within this, or QEMU counts as stuck.
    static let timeout = Duration.seconds(10)

    let log: Logger

    /// - Parameter elsewhere: asked when the guest cannot be protected as it runs: what else stands in the way, so that all of
    ///   it is told at once.
    package init(
        vm: VMName, qmpPath: String, log: Logger, elsewhere: (GuestDescription) -> [String]
    ) throws(SessionError) {
        self.vm = vm
        self.log = log
        do {
            monitor = try QMPConnection(path: qmpPath)
            let (found, refusals) = GuestInspector.examine(monitor)
            guard refusals.isEmpty, let found else {
                let reasons = refusals.map(\.message) + (found.map(elsewhere) ?? [])
                throw SessionError(.refused, "\(vm) cannot be protected: \(reasons.joined(separator: "; "))")
            }
            description = found
            process = try PidDescriptor(description.process.pid)
            mayPinMemory = try PinningDisks.exist(monitor)
        } catch let error as SessionError {
            throw error
        } catch {
            throw SessionError(.refused, "\(vm) cannot be protected: \(error)")
        }
        blocks = description.ramBlocks
        trackedBlocks = description.trackedPlaces
        drives = description.disks.filter(\.isReplicated)
        offeredDisks = drives.enumerated().map { OfferedDisk(index: UInt16($0), id: $1.name, size: $1.virtualSize) }
        offeredNICs = description.nics.enumerated().compactMap { index, nic in
            nic.netdev.map { OfferedNIC(index: UInt16(index), netdev: $0) }
        }
    }

    package var pid: Int32 { description.process.pid }
    /// False once it is certain that the guest runs no more. A process that is killed gives its memory and its files back
    /// first, which takes the kernel seconds for a large one, and counts as ended only then.
    package var isAlive: Bool { !isDying && !process.hasExited() && (monitor.isOpen || hasMemory) }
    /// The first word of this file is 0 for a process whose memory was taken from it (proc(5)), which is never undone.
    private var hasMemory: Bool { (try? Files.text(of: "/proc/\(pid)/statm"))?.first != "0" }
    package var exitDescriptor: Int32 { process.number }
    package var pollDescriptor: Int32 { monitor.isOpen ? monitor.descriptor : -1 }

    /// Ends the guest's QEMU at once; the session notices by its exit.
    package func kill() {
        try? process.kill()
        standstill.end(after: .standby)
    }

    package func end(by body: (borrowing PidDescriptor) -> Void) {
        body(process)
        standstill.end(after: .standby)
    }

    // MARK: - A checkpoint

    /// Stops the guest ahead of its next checkpoint.
    package func holdStill(for cause: Standstill.Cause) throws(SessionError) {
        let sentAt = Self.wallClock()
        standstill.begin(cause)
        do throws(QMPError) {
            try monitor.execute("stop", timeout: Self.timeout)
            standstill.passed(.stop)
            isHeldStill = try takeOwn("STOP", since: sentAt)
            standsStill = isHeldStill
            if !isHeldStill { standstill.forget() }
        } catch {
            throw qemuFailed("stop", error)
        }
    }

    /// Whether the next checkpoint can be made by one command, which lets the guest run on at its end. The first one cannot:
    /// the pipe's size follows the state's.
    package func canSaveInOne() throws(SessionError) -> Bool {
        guard let single, !isHeldStill, !stateBuffer.isEmpty else { return false }
        return try checkpointing { () throws(SystemError) in try single.prepare(for: stateBuffer.count) }
    }

    /// Has QEMU stop the guest and save its devices, all in one command; returns when the guest stands still. Its disks may
    /// be drained still, so memory may yet be written until `awaitSaved` says true.
    package func stopAndSaveInOne() throws(SessionError) {
        guard let single else { throw SessionError(.qemu, "\(vm) is not attached") }
        sentAt = Self.wallClock()
        stoppedByUs = false
        isSingle = true
        standstill.begin(.checkpoint)
        do throws(QMPError) {
            try single.send()
        } catch {
            throw qemuFailed("save its devices", error)
        }
        while try !noticesStop(), !single.isAnswered,
            try checkpointing({ () throws(SystemError) in try single.waitUnlessHolding() })
        {}
        standstill.passed(.stop)
    }

    /// Waits until QEMU has begun to save, with its disks drained: it opens the file after that (migration/savevm.c,
    /// `qmp_xen_save_devices_state`). False when it answered instead.
    package func awaitDrained() throws(SessionError) -> Bool {
        guard let single else { return false }
        defer { standstill.passed(.stop) }
        return try wait(for: single) { () throws(SystemError) in try single.waitUnlessWriting() }
    }

    /// Waits until QEMU has saved what it will save before it is let on, with the guest standing still and its disks
    /// drained. False when it would not wait: it could not save that way, or the state is shorter than ever; the guest runs
    /// again then, and the checkpoint is to be made by several commands.
    package func awaitSaved() throws(SessionError) -> Bool {
        guard let single else { return false }
        let isSaved = try wait(for: single) { () throws(SystemError) in try single.waitUnlessHolding() }
        standstill.passed(.save)
        if !isSaved { try abandonSingle() }
        return isSaved
    }

    /// Takes in what QEMU says until `step`, which waits for a moment, returns false. False when the command was answered
    /// before.
    private func wait(
        for single: SingleCommandSave, _ step: () throws(SystemError) -> Bool
    ) throws(SessionError) -> Bool {
        let began = MonotonicClock.now()
        while try checkpointing(step) {
            // The stop comes before all that is saved, the answer after it.
            _ = try noticesStop()
            if MonotonicClock.now() - began > 10_000_000_000 {
                throw SessionError(.qemu, "the QEMU of \(vm) did not save its devices within 10 s")
            }
            if single.isAnswered { return false }
        }
        _ = try noticesStop()
        return true
    }

    /// Takes in what QEMU says; true when the guest was stopped by our command.
    private func noticesStop() throws(SessionError) -> Bool {
        do throws(QMPError) {
            let noticed = try takeOwn("STOP", since: sentAt)
            stoppedByUs = stoppedByUs || noticed
        } catch {
            throw qemuFailed("stop", error)
        }
        standsStill = stoppedByUs
        return stoppedByUs
    }

    /// Waits, with the guest running, until the disks have ended what they have begun by now.
    package func drainDisks() throws(SessionError) {
        do throws(QMPError) {
            try PinningDisks.drain(monitor, timeout: Self.timeout)
        } catch {
            throw qemuFailed("drain its disks", error)
        }
    }

    private func abandonSingle() throws(SessionError) {
        isSingle = false
        do throws(QMPError) {
            _ = try takeOwn("RESUME", since: sentAt)
            (standsStill, stoppedByUs) = (false, false)
            standstill.end(after: .resume)
            try single?.awaitAnswers(Self.timeout)
            // All of the state had room: the size of the next one is learnt anew.
            stateBuffer = []
        } catch {
            if error.isFatal { throw qemuFailed("save its devices", error) }
            log.notice("checkpoints of \(vm) are made of several commands: \(error)")
            single = nil
        }
    }

    private func checkpointing<Value>(_ body: () throws(SystemError) -> Value) throws(SessionError) -> Value {
        do throws(SystemError) {
            return try body()
        } catch {
            throw SessionError(.system, "\(vm) cannot be checkpointed: \(error)")
        }
    }

    /// Stops the guest and has QEMU begin to write its device state; returns when the guest stands still and its disks
    /// are drained. All commands go out in one write, so that QEMU does not wait for us in between.
    package func stopAndSave() throws(SessionError) {
        try checkpointing { () throws(SystemError) in try capture?.rewind() }
        guard let save = capture?.save else { throw SessionError(.qemu, "\(vm) is not attached") }
        let sentAt = Self.wallClock()
        standstill.begin(.checkpoint)
        do throws(QMPError) {
            pending = try monitor.send([DeviceStateCapture.stop, save, DeviceStateCapture.memorySize])
            try monitor.awaitReply(pending.lowerBound, timeout: Self.timeout)
            standstill.passed(.stop)
            // A guest that runs says STOP before it answers; one that stood still already says nothing.
            stoppedByUs = try takeOwn("STOP", since: sentAt) || isHeldStill
            isHeldStill = false
            standsStill = stoppedByUs
        } catch {
            throw qemuFailed("stop", error)
        }
    }

    /// True when somebody else let the guest run on since `stopAndSave`: what was captured meanwhile is not one state.
    package func wasResumedByOthers() throws(SessionError) -> Bool {
        do throws(QMPError) {
            try hear()
        } catch {
            throw qemuFailed("tell its state", error)
        }
        let count = events.count
        events.removeAll { $0.name == "RESUME" }
        return events.count < count
    }

    /// Waits for the device state that `stopAndSave` asked for, and reads it.
    package func finishSave() throws(SessionError) {
        let memory: JSONValue
        do throws(QMPError) {
            try monitor.awaitReply(pending.lowerBound + 1, timeout: Self.timeout)
            memory = try monitor.awaitValue(pending.lowerBound + 2, timeout: Self.timeout)
        } catch {
            throw qemuFailed("write its device state", error)
        }
        standstill.passed(.save)
        try checkMemory(memory)
        try checkpointing { () throws(SystemError) in
            let length = capture?.length() ?? 0
            if stateBuffer.count != length { stateBuffer = [UInt8](repeating: 0, count: length) }
            _ = try stateBuffer.withUnsafeMutableBufferPointer { (bytes) throws(SystemError) in
                try capture?.read(into: UnsafeMutableRawBufferPointer(bytes)) ?? 0
            }
        }
    }

    private func checkMemory(_ memory: JSONValue) throws(SessionError) {
        if let size = MemorySize(memory), size != description.memorySize {
            throw SessionError(
                .refused,
                "memory of \(vm) was plugged in or out (\(description.memorySize.plugged) bytes before,"
                    + " \(size.plugged) now), which the standby cannot follow: protect it again to go on with what it has now"
            )
        }
    }

    /// Begins to let the guest run on, where a single command does that; `resume` follows.
    package func release() throws(SessionError) {
        if isSingle, let single { try checkpointing { () throws(SystemError) in try single.release() } }
    }

    /// Lets the guest run on, if it was we who stopped it; `release` comes before. Returns when it runs.
    package func resume() throws(SessionError) {
        if isSingle, let single {
            do throws(QMPError) {
                try single.awaitEnd(Self.timeout)
                standstill.end(after: .resume)
                _ = try takeOwn("RESUME", since: sentAt)
                standsStill = false
            } catch {
                throw qemuFailed("let the guest run on", error)
            }
            return
        }
        guard stoppedByUs else { return standstill.forget() }
        let sentAt = Self.wallClock()
        do throws(QMPError) {
            let id = try monitor.send(DeviceStateCapture.resume)
            try monitor.awaitReply(id, timeout: Self.timeout)
            standstill.end(after: .resume)
            _ = try takeOwn("RESUME", since: sentAt)
            standsStill = false
        } catch {
            throw qemuFailed("let the guest run on", error)
        }
    }

    /// The device state of the checkpoint, after `resume`; `confirmCheckpoint` comes before it counts.
    package func takeDeviceState() throws(SessionError) -> [UInt8] {
        if isSingle, let single {
            stateBuffer = try checkpointing { () throws(SystemError) in try single.takeState() }
        }
        return stateBuffer
    }

    /// Throws when what was captured is no checkpoint that the standby could load.
    package func confirmCheckpoint() throws(SessionError) {
        try checkUnchanged(stateBuffer)
        guard isSingle, let single else { return }
        guard single.held(stateBuffer.count) else {
            throw SessionError(
                .qemu,
                "a checkpoint of \(vm) is not one state: QEMU let the guest run on by itself after"
                    + " \(stateBuffer.count) bytes of device state; protect it again")
        }
    }

    /// The end of a checkpoint, with the guest running again: throws when its memory is another than the standby's. That comes
    /// with other devices, which `confirmCheckpoint` finds, or (virtio-mem) with a state that the standby still can load: so the
    /// checkpoint need not wait for it.
    package func confirmMemory() throws(SessionError) {
        guard isSingle, let single else { return }
        isSingle = false
        let memory: JSONValue
        do throws(QMPError) {
            memory = try single.memorySize(Self.timeout)
        } catch {
            throw qemuFailed("tell its memory size", error)
        }
        try checkMemory(memory)
    }

    /// After a checkpoint that failed half-way: the guest must not stay as it stands.
    package func letRunOn() {
        // QEMU would hear nothing while it waits in the pipe.
        if isSingle { try? release() }
        isSingle = false
        guard standsStill, isAlive else { return }
        standstill.passed(.standby)
        do throws(QMPError) {
            try monitor.execute("cont", timeout: Self.timeout)
            standsStill = false
            standstill.end(after: .resume)
        } catch {
            log.error("\(vm) stands still and cannot be let run on: \(error); enter “cont” at its monitor")
        }
    }

    /// Compares the devices of this checkpoint with those of the first: a guest that gained or lost a device cannot be
    /// loaded by a standby that was started without it.
    ///
    /// A device more or less changes the state's length, so equal lengths are looked into only now and then: taking the
    /// sections apart costs more than all the rest of an idle epoch.
    private func checkUnchanged(_ deviceState: [UInt8]) throws(SessionError) {
        checkpoints += 1
        guard deviceState.count != checkedLength || checkpoints % Self.checkPeriod == 0 else { return }
        checkedLength = deviceState.count
        let now: DeviceLayout
        do throws(DeviceStateError) {
            now = try deviceState.withUnsafeBufferPointer { (bytes) throws(DeviceStateError) in
                try DeviceState.layout(of: UnsafeRawBufferPointer(bytes))
            }
        } catch {
            throw SessionError(.qemu, "\(vm) cannot be checkpointed: \(error)")
        }
        guard let layout else {
            self.layout = now
            return
        }
        if let difference = layout.difference(to: now) {
            throw SessionError(
                .refused,
                "the devices of \(vm) changed (\(difference)), which the standby cannot follow: protect it again to go on"
                    + " with what it has now")
        }
    }

    /// What QEMU told since the last look, without the effects of our own `stop` and `cont`.
    package func takeNews() -> [GuestNews] {
        // A monitor that broke is noticed by the process's end, or by the next command.
        try? hear()
        defer { events = [] }
        return events.compactMap { event in
            switch event.name {
            case "SHUTDOWN": .shutdown(event.data["reason"]?.string)
            case "STOP": .paused
            case "RESUME": .resumed
            case "RESET": .reset
            case "DEVICE_DELETED": .deviceRemoved
            default: mirrors.lazy.compactMap { $0.failure(event) }.first.map { .mirrorFailed($0) }
            }
        }
    }

    private func hear() throws(QMPError) {
        let heard = try monitor.takeEvents()
        // Another medium may be read in another way. QEMU tells of it before it stops for a checkpoint that has it.
        if heard.contains(where: { $0.name == "DEVICE_TRAY_MOVED" }) { mayPinMemory = true }
        events += heard
    }

    /// Removes the event that our command caused from the queue; false when there is none. QEMU stamps events with this
    /// host's wall clock, in microseconds, so an older one is somebody else's.
    private func takeOwn(_ name: String, since sentAt: Int64) throws(QMPError) -> Bool {
        try hear()
        guard let index = events.lastIndex(where: { $0.name == name && $0.timestamp >= sentAt }) else { return false }
        events.remove(at: index)
        return true
    }

    private static func wallClock() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    // MARK: - Attaching and detaching

    /// Takes out what an agent that was killed left behind: it keeps the guest's output back.
    package func removeLeftovers() throws(SessionError) {
        do throws(QMPError) {
            for leftover in try Leftovers.remove(monitor) { log.warning("\(vm): an earlier session left \(leftover)") }
            // The end of an earlier session's job is not the end of the one that gets its name.
            try hear()
            events.removeAll { $0.name.hasPrefix("BLOCK_JOB_") }
        } catch {
            throw qemuFailed("remove what an earlier session left behind", error)
        }
    }

    /// Makes room for ourselves, and hands QEMU the file for its device state.
    package func prepare() throws(SessionError) {
        try removeLeftovers()
        do throws(DeviceError) {
            capture = try DeviceStateCapture.install(monitor)
            single = try SingleCommandSave(monitor)
        } catch {
            throw deviceFailed("the file for its device state", error)
        }
    }

    /// Lets the guest stand still, with its disks drained, while `body` changes something in QEMU; a guest that somebody
    /// else paused stays so.
    ///
    /// Mirrors must not come or go under writes: QEMU 7.2 crashes on a write that is in flight between the filter node's
    /// appearance and its job's (block/mirror.c, `mirror_start_job`), and on one that outlives a cancelled job.
    package func whileStopped<Failure: Error>(
        for cause: Standstill.Cause, _ body: () throws(Failure) -> Void
    ) throws(Failure) {
        let running = (try? monitor.execute("query-status", nil, timeout: Self.timeout))?["running"]?.bool ?? true
        if running {
            standstill.begin(cause)
            _ = try? monitor.execute("stop", nil, timeout: Self.timeout)
            standstill.passed(.stop)
        }
        defer {
            if running {
                standstill.passed(.change)
                _ = try? monitor.execute("cont", nil, timeout: Self.timeout)
                standstill.end(after: .resume)
            }
        }
        try body()
    }

    /// Has the host write out what its page cache holds of QEMU's files, with the guest running: QEMU flushes its disks when it
    /// stops, and the guest would stand still for all that was gathered.
    package func flushImages() {
        for number in (try? ProcessFiles.descriptors(of: pid)) ?? [] {
            let path = "/proc/\(pid)/fd/\(number)"
            var status = stat()
            guard stat(path, &status) == 0, [S_IFREG, S_IFBLK].contains(status.st_mode & S_IFMT),
                let file = try? OwnedDescriptor.open(path, O_RDONLY)
            else { continue }
            fdatasync(file.number)
        }
    }

    /// Lets the guest run, whoever stopped it.
    package func resumeAnyway() {
        do throws(QMPError) {
            try monitor.execute("cont", timeout: Self.timeout)
        } catch {
            log.error("\(vm) cannot be let run on: \(error); enter “cont” at its monitor")
        }
    }

    /// Lets the guest stand still until somebody decides.
    package func stopAnyway() {
        do throws(QMPError) {
            try monitor.execute("stop", timeout: Self.timeout)
        } catch {
            log.error("\(vm) cannot be stopped: \(error); enter “stop” at its monitor")
        }
    }

    package func close() {
        if isAlive {
            do throws(DeviceError) {
                try capture?.remove(monitor)
                try single?.remove()
            } catch {
                log.warning("\(vm): QEMU keeps the file for its device state: \(error)")
            }
        }
        capture = nil
        single = nil
        standstill.report = { _ in }
        monitor.close()
    }

    /// A process that is killed closes its sockets some time before it counts as ended.
    private func hasDied(_ monitorClosed: Bool) -> Bool {
        monitorClosed ? hasEnded(within: 2_000_000_000) : !isAlive
    }

    /// True as soon as the process has ended, or has no memory any more, which is waited for for so many nanoseconds.
    package func hasEnded(within timeout: UInt64) -> Bool {
        if !hasMemory { isDying = true }
        if isDying { return true }
        return (try? process.waitForExit(timeout: timeout)) ?? !isAlive
    }

    var gone: SessionError { SessionError(.guestLost, "the guest's QEMU (pid \(pid)) is gone") }

    func qemuFailed(_ what: String, _ error: QMPError) -> SessionError {
        if hasDied(error.reason == .closed) { return gone }
        return SessionError(.qemu, "the QEMU of \(vm) did not \(what): \(error)")
    }

    func deviceFailed(_ what: String, _ error: DeviceError) -> SessionError {
        if hasDied(error.isClosed) { return gone }
        return SessionError(.qemu, "\(what) of \(vm): \(error)")
    }
}
