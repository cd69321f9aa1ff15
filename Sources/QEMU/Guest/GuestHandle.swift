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
    package let vm: VMName
    let monitor: QMPConnection
    let process: GuestProcess
    let log: Logger
    private let events: GuestEvents
    private let checkpoints: CheckpointCommands
    /// How long it stands still because of us, and why.
    package var standstill = StandstillClock()
    /// Of its disks that are mirrored.
    var mirrors: [QEMUDiskTap] = []
    private let pinsMemory: Bool

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
            process = try GuestProcess(vm, found.process.pid, monitor)
            pinsMemory = try PinningDisks.exist(monitor)
        } catch let error as SessionError {
            throw error
        } catch {
            throw SessionError(.refused, "\(vm) cannot be protected: \(error)")
        }
        events = GuestEvents(monitor, description.disks)
        checkpoints = CheckpointCommands(process, events, memorySize: description.memorySize, log: log)
        blocks = description.ramBlocks
        trackedBlocks = description.trackedPlaces
        drives = description.disks.filter(\.isReplicated)
        offeredDisks = drives.enumerated().map { OfferedDisk(index: UInt16($0), id: $1.name, size: $1.virtualSize) }
        offeredNICs = description.nics.enumerated().compactMap { index, nic in
            nic.netdev.map { OfferedNIC(index: UInt16(index), netdev: $0) }
        }
    }

    // MARK: - The process

    package var pid: Int32 { process.pid }
    package var isAlive: Bool { process.isAlive }
    package var exitDescriptor: Int32 { process.exitDescriptor }
    package var pollDescriptor: Int32 { monitor.isOpen ? monitor.descriptor : -1 }

    /// Ends the guest's QEMU at once; the session notices by its exit.
    package func kill() {
        process.kill()
        standstill.end(after: .standby)
    }

    package func end(by body: (borrowing PidDescriptor) -> Void) {
        process.end(by: body)
        standstill.end(after: .standby)
    }

    package func hasEnded(within timeout: UInt64) -> Bool { process.hasEnded(within: timeout) }

    /// What QEMU told since the last look, without the effects of our own `stop` and `cont`.
    package func takeNews() -> [GuestNews] { events.takeNews(mirrors) }

    // MARK: - A checkpoint

    package var stoppedByUs: Bool { checkpoints.stoppedByUs }
    package var isHeldStill: Bool { checkpoints.isHeldStill }
    /// Whether QEMU's disks may write into guest memory unseen, with what they have begun to read when it is protected.
    package var mayPinMemory: Bool { pinsMemory || events.hasMovedMedia }

    package func holdStill(for cause: Standstill.Cause) throws(SessionError) {
        try checkpoints.holdStill(for: cause, &standstill)
    }

    package func canSaveInOne() throws(SessionError) -> Bool { try checkpoints.canSaveInOne() }
    package func stopAndSaveInOne() throws(SessionError) { try checkpoints.stopAndSaveInOne(&standstill) }
    package func awaitDrained() throws(SessionError) -> Bool { try checkpoints.awaitDrained(&standstill) }
    package func awaitSaved() throws(SessionError) -> Bool { try checkpoints.awaitSaved(&standstill) }
    package func stopAndSave() throws(SessionError) { try checkpoints.stopAndSave(&standstill) }
    package func finishSave() throws(SessionError) { try checkpoints.finishSave(&standstill) }
    package func wasResumedByOthers() throws(SessionError) -> Bool { try checkpoints.wasResumedByOthers() }
    package func release() throws(SessionError) { try checkpoints.release() }
    package func resume() throws(SessionError) { try checkpoints.resume(&standstill) }
    package func takeDeviceState() throws(SessionError) -> [UInt8] { try checkpoints.takeDeviceState() }
    package func confirmCheckpoint() throws(SessionError) { try checkpoints.confirmCheckpoint() }
    package func confirmMemory() throws(SessionError) { try checkpoints.confirmMemory() }
    package func letRunOn() { checkpoints.letRunOn(&standstill) }

    package func drainDisks() throws(SessionError) { try checkpoints.drainDisks() }
    package func takeDiskFault() -> DiskFault? { events.takeDiskFault() }
    package var diskBound: DiskBound? {
        get { checkpoints.diskBound }
        set { checkpoints.diskBound = newValue }
    }

    package func flushImages() { process.flushFiles() }

    // MARK: - Attaching and detaching

    /// Takes out what an agent that was killed left behind: it keeps the guest's output back.
    package func removeLeftovers() throws(SessionError) {
        try removeLeftServed()
        do throws(QMPError) {
            for leftover in try Leftovers.remove(monitor, description.nics) {
                log.warning("\(vm): an earlier session left \(leftover)")
            }
            // The end of an earlier session's job is not the end of the one that gets its name.
            try events.remove { $0.name.hasPrefix("BLOCK_JOB_") }
        } catch {
            throw process.failed(to: "remove what an earlier session left behind", error)
        }
    }

    /// Makes room for ourselves, and hands QEMU the files for its device state.
    package func prepare() throws(SessionError) {
        try removeLeftovers()
        do throws(DeviceError) {
            try checkpoints.install()
        } catch {
            throw process.failed(with: "the file for its device state", error)
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
        let running =
            (try? monitor.execute("query-status", nil, timeout: GuestProcess.timeout))?["running"]?.bool ?? true
        if running {
            standstill.begin(cause)
            _ = try? monitor.execute("stop", nil, timeout: GuestProcess.timeout)
            standstill.passed(.stop)
        }
        defer {
            if running {
                standstill.passed(.change)
                _ = try? monitor.execute("cont", nil, timeout: GuestProcess.timeout)
                standstill.end(after: .resume)
            }
        }
        try body()
    }

    /// Lets the guest run, whoever stopped it.
    package func resumeAnyway() {
        do throws(QMPError) {
            try monitor.execute("cont", timeout: GuestProcess.timeout)
        } catch {
            log.error("\(vm) cannot be let run on: \(error); enter “cont” at its monitor")
        }
    }

    /// Lets the guest stand still until somebody decides.
    package func stopAnyway() {
        do throws(QMPError) {
            try monitor.execute("stop", timeout: GuestProcess.timeout)
        } catch {
            log.error("\(vm) cannot be stopped: \(error); enter “stop” at its monitor")
        }
    }

    package func close() {
        checkpoints.remove()
        standstill.report = { _ in }
        monitor.close()
    }
}
