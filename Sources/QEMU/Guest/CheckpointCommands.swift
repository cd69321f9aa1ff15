import Hypervisor
import LinuxSystem
import Logging
import Model

/// Has a guest's QEMU make checkpoints: it stops, saves its devices and is let run on, by one command where that can be, else by
/// several. Each call tells the clock what the guest stood still for.
final class CheckpointCommands {
    private let process: GuestProcess
    private let events: GuestEvents
    /// What the standby has.
    private let memorySize: MemorySize
    private let log: Logger
    private var capture: DeviceStateCapture?
    /// Nil where this QEMU refuses it: checkpoints are then made of several commands.
    private var single: SingleCommandSave?
    /// True while a checkpoint of one command is under way.
    private var isSingle = false
    /// When that command was sent.
    private var sentAt: Int64 = 0
    private var devices = DeviceComparison()
    /// Of the several commands that stop and save.
    private var pending: Range<UInt64> = 0..<0
    /// Reused for every checkpoint's device state.
    private var stateBuffer: [UInt8] = []
    /// False when somebody else had paused the guest before we stopped it: then it is not ours to let run on.
    private(set) var stoppedByUs = false
    /// True after `holdStill`, until the next checkpoint.
    private(set) var isHeldStill = false
    /// True while the guest stands still because of us.
    private var standsStill = false
    /// Disks that take longer to be drained hang.
    var diskBound: DiskBound?

    init(_ process: GuestProcess, _ events: GuestEvents, memorySize: MemorySize, log: Logger) {
        self.process = process
        self.events = events
        self.memorySize = memorySize
        self.log = log
    }

    /// Hands QEMU the files for its device state.
    func install() throws(DeviceError) {
        capture = try DeviceStateCapture.install(process.monitor)
        single = try SingleCommandSave(process.monitor)
    }

    /// Takes them away, from a QEMU that is there still.
    func remove() {
        if process.isAlive {
            do throws(DeviceError) {
                try capture?.remove(process.monitor)
                try single?.remove()
            } catch {
                log.warning("\(process.vm): QEMU keeps the file for its device state: \(error)")
            }
        }
        capture = nil
        single = nil
    }

    /// Stops the guest ahead of its next checkpoint.
    func holdStill(for cause: Standstill.Cause, _ clock: inout StandstillClock) throws(SessionError) {
        let sentAt = GuestEvents.now()
        clock.begin(cause)
        try run(DeviceStateCapture.stop, to: "stop")
        clock.passed(.stop)
        do throws(QMPError) {
            isHeldStill = try events.takeOwn("STOP", since: sentAt)
            standsStill = isHeldStill
            if !isHeldStill { clock.forget() }
        } catch {
            throw process.failed(to: "stop", error)
        }
    }

    /// Waits, with the guest running, until the disks have ended what they have begun by now.
    func drainDisks() throws(SessionError) { try run(PinningDisks.drain, to: "drain its disks") }

    /// A command that drains the disks.
    private func run(_ command: QMPCommand, to what: String) throws(SessionError) {
        let id: UInt64
        do throws(QMPError) {
            id = try process.monitor.send(command)
        } catch {
            throw process.failed(to: what, error)
        }
        try awaitDrain(id, to: what)
    }

    /// Waits for the answer to a command that drains the disks.
    private func awaitDrain(_ id: UInt64, to what: String) throws(SessionError) {
        let deadline = ContinuousClock.now + GuestProcess.timeout
        var patience = beginPatience()
        while try !isAnswered(id, what), ContinuousClock.now < deadline { try check(&patience) }
        do throws(QMPError) {
            try process.monitor.awaitReply(id, timeout: .zero)
        } catch {
            throw process.failed(to: what, error)
        }
    }

    private func isAnswered(_ id: UInt64, _ what: String) throws(SessionError) -> Bool {
        do throws(QMPError) {
            return try process.monitor.isAnswered(id, within: .milliseconds(100))
        } catch {
            throw process.failed(to: what, error)
        }
    }

    private func beginPatience() -> DiskPatience { DiskPatience(diskBound, now: MonotonicClock.now()) }

    /// Throws when the disks keep us waiting for too long.
    private func check(_ patience: inout DiskPatience) throws(SessionError) {
        guard patience.isOver(at: MonotonicClock.now(), isHalted: { process.isHalted }) else { return }
        throw process.diskHangs(patience)
    }

    /// Whether the next checkpoint can be made by one command, which lets the guest run on at its end. The first one cannot:
    /// the pipe's size follows the state's.
    func canSaveInOne() throws(SessionError) -> Bool {
        guard let single, !isHeldStill, !stateBuffer.isEmpty else { return false }
        return try checkpointing { () throws(SystemError) in try single.prepare(for: stateBuffer.count) }
    }

    /// Has QEMU stop the guest and save its devices, all in one command; returns when the guest stands still. Its disks may
    /// be drained still, so memory may yet be written until `awaitSaved` says true.
    func stopAndSaveInOne(_ clock: inout StandstillClock) throws(SessionError) {
        guard let single else { throw SessionError(.qemu, "\(process.vm) is not attached") }
        sentAt = GuestEvents.now()
        stoppedByUs = false
        isSingle = true
        clock.begin(.checkpoint)
        do throws(QMPError) {
            try single.send()
        } catch {
            throw process.failed(to: "save its devices", error)
        }
        var patience = beginPatience()
        while try !noticesStop(), !single.isAnswered,
            try checkpointing({ () throws(SystemError) in try single.waitUnlessHolding() })
        {
            try check(&patience)
        }
        clock.passed(.stop)
    }

    /// Waits until QEMU has begun to save, with its disks drained: it opens the file after that (migration/savevm.c,
    /// `qmp_xen_save_devices_state`). False when it answered instead.
    func awaitDrained(_ clock: inout StandstillClock) throws(SessionError) -> Bool {
        guard let single else { return false }
        defer { clock.passed(.stop) }
        return try wait(for: single) { () throws(SystemError) in try single.waitUnlessWriting() }
    }

    /// Waits until QEMU has saved what it will save before it is let on, with the guest standing still and its disks
    /// drained. False when it would not wait: it could not save that way, or the state is shorter than ever; the guest runs
    /// again then, and the checkpoint is to be made by several commands.
    func awaitSaved(_ clock: inout StandstillClock) throws(SessionError) -> Bool {
        guard let single else { return false }
        let isSaved = try wait(for: single) { () throws(SystemError) in try single.waitUnlessHolding() }
        clock.passed(.save)
        if !isSaved { try abandonSingle(&clock) }
        return isSaved
    }

    /// Takes in what QEMU says until `step`, which waits for a moment, returns false. False when the command was answered
    /// before.
    private func wait(
        for single: SingleCommandSave, _ step: () throws(SystemError) -> Bool
    ) throws(SessionError) -> Bool {
        let began = MonotonicClock.now()
        var patience = beginPatience()
        while try checkpointing(step) {
            // The stop comes before all that is saved, the answer after it.
            _ = try noticesStop()
            try check(&patience)
            if MonotonicClock.now() - began > 10_000_000_000 {
                throw SessionError(.qemu, "the QEMU of \(process.vm) did not save its devices within 10 s")
            }
            if single.isAnswered { return false }
        }
        _ = try noticesStop()
        return true
    }

    /// Takes in what QEMU says; true when the guest was stopped by our command.
    private func noticesStop() throws(SessionError) -> Bool {
        do throws(QMPError) {
            let noticed = try events.takeOwn("STOP", since: sentAt)
            stoppedByUs = stoppedByUs || noticed
        } catch {
            throw process.failed(to: "stop", error)
        }
        standsStill = stoppedByUs
        return stoppedByUs
    }

    private func abandonSingle(_ clock: inout StandstillClock) throws(SessionError) {
        isSingle = false
        do throws(QMPError) {
            _ = try events.takeOwn("RESUME", since: sentAt)
            (standsStill, stoppedByUs) = (false, false)
            clock.end(after: .resume)
            try single?.awaitAnswers(GuestProcess.timeout)
            // All of the state had room: the size of the next one is learnt anew.
            stateBuffer = []
        } catch {
            if error.isFatal { throw process.failed(to: "save its devices", error) }
            log.notice("checkpoints of \(process.vm) are made of several commands: \(error)")
            single = nil
        }
    }

    private func checkpointing<Value>(_ body: () throws(SystemError) -> Value) throws(SessionError) -> Value {
        do throws(SystemError) {
            return try body()
        } catch {
            throw SessionError(.system, "\(process.vm) cannot be checkpointed: \(error)")
        }
    }

    /// Stops the guest and has QEMU begin to write its device state; returns when the guest stands still and its disks
    /// are drained. All commands go out in one write, so that QEMU does not wait for us in between.
    func stopAndSave(_ clock: inout StandstillClock) throws(SessionError) {
        try checkpointing { () throws(SystemError) in try capture?.rewind() }
        guard let save = capture?.save else { throw SessionError(.qemu, "\(process.vm) is not attached") }
        let sentAt = GuestEvents.now()
        clock.begin(.checkpoint)
        do throws(QMPError) {
            pending = try process.monitor.send([DeviceStateCapture.stop, save, DeviceStateCapture.memorySize])
        } catch {
            throw process.failed(to: "stop", error)
        }
        try awaitDrain(pending.lowerBound, to: "stop")
        clock.passed(.stop)
        do throws(QMPError) {
            // A guest that runs says STOP before it answers; one that stood still already says nothing.
            stoppedByUs = try events.takeOwn("STOP", since: sentAt) || isHeldStill
            isHeldStill = false
            standsStill = stoppedByUs
        } catch {
            throw process.failed(to: "stop", error)
        }
    }

    /// True when somebody else let the guest run on since `stopAndSave`: what was captured meanwhile is not one state.
    func wasResumedByOthers() throws(SessionError) -> Bool {
        do throws(QMPError) {
            return try events.remove { $0.name == "RESUME" }
        } catch {
            throw process.failed(to: "tell its state", error)
        }
    }

    /// Waits for the device state that `stopAndSave` asked for, and reads it.
    func finishSave(_ clock: inout StandstillClock) throws(SessionError) {
        let memory: JSONValue
        do throws(QMPError) {
            try process.monitor.awaitReply(pending.lowerBound + 1, timeout: GuestProcess.timeout)
            memory = try process.monitor.awaitValue(pending.lowerBound + 2, timeout: GuestProcess.timeout)
        } catch {
            throw process.failed(to: "write its device state", error)
        }
        clock.passed(.save)
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
        if let size = MemorySize(memory), size != memorySize {
            throw SessionError(
                .refused,
                "memory of \(process.vm) was plugged in or out (\(memorySize.plugged) bytes before,"
                    + " \(size.plugged) now), which the standby cannot follow: protect it again to go on with what it has now"
            )
        }
    }

    /// Begins to let the guest run on, where a single command does that; `resume` follows.
    func release() throws(SessionError) {
        if isSingle, let single { try checkpointing { () throws(SystemError) in try single.release() } }
    }

    /// Lets the guest run on, if it was we who stopped it; `release` comes before. Returns when it runs.
    func resume(_ clock: inout StandstillClock) throws(SessionError) {
        if isSingle, let single {
            do throws(QMPError) {
                try single.awaitEnd(GuestProcess.timeout)
                clock.end(after: .resume)
                _ = try events.takeOwn("RESUME", since: sentAt)
                standsStill = false
            } catch {
                throw process.failed(to: "let the guest run on", error)
            }
            return
        }
        guard stoppedByUs else { return clock.forget() }
        let sentAt = GuestEvents.now()
        do throws(QMPError) {
            let id = try process.monitor.send(DeviceStateCapture.resume)
            try process.monitor.awaitReply(id, timeout: GuestProcess.timeout)
            clock.end(after: .resume)
            _ = try events.takeOwn("RESUME", since: sentAt)
            standsStill = false
        } catch {
            throw process.failed(to: "let the guest run on", error)
        }
    }

    /// The device state of the checkpoint, after `resume`; `confirmCheckpoint` comes before it counts.
    func takeDeviceState() throws(SessionError) -> [UInt8] {
        if isSingle, let single {
            stateBuffer = try checkpointing { () throws(SystemError) in try single.takeState() }
        }
        return stateBuffer
    }

    /// Throws when what was captured is no checkpoint that the standby could load.
    func confirmCheckpoint() throws(SessionError) {
        try checkDevices()
        guard isSingle, let single else { return }
        guard single.held(stateBuffer.count) else {
            throw SessionError(
                .qemu,
                "a checkpoint of \(process.vm) is not one state: QEMU let the guest run on by itself after"
                    + " \(stateBuffer.count) bytes of device state; protect it again")
        }
    }

    /// The end of a checkpoint, with the guest running again: throws when its memory is another than the standby's. That comes
    /// with other devices, which `confirmCheckpoint` finds, or (virtio-mem) with a state that the standby still can load: so the
    /// checkpoint need not wait for it.
    func confirmMemory() throws(SessionError) {
        guard isSingle, let single else { return }
        isSingle = false
        let memory: JSONValue
        do throws(QMPError) {
            memory = try single.memorySize(GuestProcess.timeout)
        } catch {
            throw process.failed(to: "tell its memory size", error)
        }
        try checkMemory(memory)
    }

    /// After a checkpoint that failed half-way: the guest must not stay as it stands.
    func letRunOn(_ clock: inout StandstillClock) {
        // QEMU would hear nothing while it waits in the pipe.
        if isSingle { try? release() }
        isSingle = false
        guard standsStill, process.isAlive else { return }
        clock.passed(.standby)
        do throws(QMPError) {
            try process.monitor.execute("cont", timeout: GuestProcess.timeout)
            (standsStill, isHeldStill) = (false, false)
            clock.end(after: .resume)
        } catch {
            log.error("\(process.vm) stands still and cannot be let run on: \(error); enter “cont” at its monitor")
        }
    }

    private func checkDevices() throws(SessionError) {
        let difference: String?
        do throws(DeviceStateError) {
            difference = try devices.difference(stateBuffer)
        } catch {
            throw SessionError(.qemu, "\(process.vm) cannot be checkpointed: \(error)")
        }
        if let difference {
            throw SessionError(
                .refused,
                "the devices of \(process.vm) changed (\(difference)), which the standby cannot follow: protect it again to go on"
                    + " with what it has now")
        }
    }
}
