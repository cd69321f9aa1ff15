import GuestNetwork
import Hypervisor
import LinuxSystem
import Logging
import Memory
import Messages
import Model
import Output
import Protocol
import Storage
import Synchronization

/// The standby's copy of a VM: RAM files, disk images, slots, and the QEMU that waits to become the guest. At a level whose
/// output is not held it is of disk images alone, and the guest is started from them. While the dial is turned the other parts
/// are attached to the disks, and detached from them.
///
/// Made whole or not at all: when a step fails, everything made before is removed again. Its files outlive the agent, so
/// that a restarted one can take it up; `dismantle` removes them.
public final class Replica: @unchecked Sendable {
    // SAFETY: the guest, its ways out, the files and what changes of the offer are used by the apply thread only, after the
    // thread that made the replica handed it over; everything else is immutable or thread-safe by itself.

    /// Its blocks and NICs are those that are attached.
    public internal(set) var offer: OfferMessage
    /// Which image this is; lives and dies with the files.
    public let image: StandbyMachine.Image
    public let command: StandbyCommand
    public let recovering: Bool
    /// Its QEMU has the state of the applied epoch already, from an earlier run of the agent.
    package var isLoaded: Bool { guest?.isLoaded ?? false }
    public let peer: NodeName
    package let appliedEpoch: Epoch
    let places: ReplicaPlaces
    /// Nil for a replica of disks alone, as is the next.
    var memoryPart: MemoryReplica?
    var stage: StageFiles?
    private let diskPart: DiskReplica
    private let state: DeviceStateFile
    /// Nil where none waits and none was started.
    var guest: ReplicaGuest?
    /// Of the guest, for whoever asks.
    let pid: Atomic<Int32>
    /// The images were let go of in order.
    private var disksAreWhole = true
    private let log: Logger

    /// Nil for a replica of disks alone.
    package var memory: ReplicaMemory? { memoryPart?.memory }
    /// Bytes of its memory that an older replica left here; the rest was zero at first.
    package var baseBytes: UInt64 { memoryPart?.baseBytes ?? 0 }
    package var disks: [StagedDisk] { diskPart.staged }
    package var slots: [StageSlot] { stage?.slots ?? [] }
    /// 0 where there is none.
    public var qemuPID: Int32 { pid.load(ordering: .relaxed) }
    public var qmpPath: String { command.monitorPath }
    /// Readable once the QEMU that waits has ended; -1 where none does.
    package var qemuExitDescriptor: Int32 { guest?.exitDescriptor ?? -1 }
    /// How it ended, with its last words; nil while it runs, and where none does.
    package var qemuEnding: String? { guest?.ending }

    /// Makes everything that a standby of `offer` needs; seconds of work.
    public init(
        offer: OfferMessage, identity: StandbyIdentity, peer: NodeName, places: ReplicaPlaces, log: Logger
    ) throws(SessionError) {
        self.offer = offer
        image = StandbyMachine.Image(offer.session, identity: identity)
        self.peer = peer
        self.places = places
        self.log = log
        recovering = false
        appliedEpoch = .firstCopy
        var undo = Undo()
        do {
            command = try Self.admit(offer, places)
            try MemoryReplica.makeDirectory(places.runtimeDirectory)
            let memoryPart = try Self.makeMemory(offer, command, places)
            self.memoryPart = memoryPart
            undo.add { MemoryReplica.giveUp(offer.vm, places, keepingMemory: (memoryPart?.baseBytes ?? 0) > 0) }
            stage = memoryPart == nil ? nil : try StageFiles(in: places.memoryDirectory, for: offer.blocks)
            state = try DeviceStateFile(path: Self.statePath(in: places.memoryDirectory))
            let diskPart = try DiskReplica(
                offer, places.standby, kept: places.bases.digests, makesMissing: offer.createsImages ?? false)
            self.diskPart = diskPart
            undo.add { diskPart.abandon() }
            let guest = try Self.startGuest(offer, command, places)
            self.guest = guest
            pid = Atomic(guest?.pid ?? 0)
            undo.add { guest?.kill() }
            raisePriority()
            try writeManifest()
        } catch {
            undo.run()
            throw Self.refusal(offer, places.node, error)
        }
    }

    /// Takes up the replica of `vm` that an earlier run of the agent left in `places.memoryDirectory`.
    ///
    /// - Parameter standby: how this host's standby differs, from the configuration, given the offer.
    public init(
        recovering memoryDirectory: String, runtimeDirectory: String, node: NodeName, bases: MemoryBases,
        guests: any StandbyGuestSource, isRealTime: Bool, standby: (OfferMessage) -> StandbyOptions, log: Logger
    ) throws(SessionError) {
        do {
            let manifest = try ReplicaManifest.read(from: memoryDirectory)
            guard !ReplicaManifest.isUsedUp(memoryDirectory) else {
                throw SessionError(.refused, "the guest was resumed from it already")
            }
            offer = manifest.offer
            image = manifest.image
            peer = manifest.peer
            command = manifest.command
            self.log = log
            places = ReplicaPlaces(
                node: node, memoryDirectory: memoryDirectory, runtimeDirectory: runtimeDirectory,
                standby: standby(offer), guests: guests, isRealTime: isRealTime, bases: bases)
            recovering = true
            let hasMemory = manifest.hasMemory
            // Of a memory that was on its way, or had gone.
            if !hasMemory { MemoryReplica.withdraw(offer.vm, memoryDirectory, keepingMemory: false, bases) }
            memoryPart = hasMemory ? try MemoryReplica(recovering: offer, command, places) : nil
            stage = hasMemory ? try StageFiles(recovering: memoryDirectory, capacity: manifest.slotCapacity) : nil
            state = try DeviceStateFile(path: Self.statePath(in: memoryDirectory))
            appliedEpoch = state.load()?.epoch ?? .firstCopy
            guard appliedEpoch > .firstCopy else {
                throw SessionError(.refused, "no checkpoint was complete")
            }
            let guest = try Self.adoptGuest(manifest, places)
            self.guest = guest
            pid = Atomic(guest?.pid ?? 0)
            // A guest that has its state has the images too.
            diskPart =
                guest?.isLoaded == true
                ? DiskReplica(takenOver: offer, places.standby, kept: bases.digests)
                : try DiskReplica(offer, places.standby, kept: bases.digests, makesMissing: false)
            raisePriority()
        } catch {
            throw SessionError(.refused, "the replica in \(memoryDirectory) is of no use: \(error)")
        }
    }

    func writeManifest() throws {
        try ReplicaManifest(
            offer: offer, peer: peer, command: command, qemuPID: qemuPID, slotCapacity: stage?.capacity ?? 0,
            image: image
        ).write(to: places.memoryDirectory)
    }

    /// What an earlier run of the agent left raised is given back where that is not wanted any more.
    func raisePriority() {
        guard places.isRealTime || recovering else { return }
        do {
            try guest?.raisePriority(keeps: places.isRealTime)
        } catch {
            log.warning("a failover of \(offer.vm) waits for a processor like everything else: \(error)")
        }
    }

    /// Through which the guest would reach its network from this host; nil where none is known.
    package func tap(of nic: GuestNIC) -> String? { places.guests.tap(of: nic, in: command) }

    package func disk(_ index: UInt16) throws(SessionError) -> StagedDisk { try disks.disk(index) }

    // MARK: - Progress

    /// Notes that the replica is at `epoch` now.
    package func noteApplied(_ epoch: Epoch, deviceState: [UInt8]) throws(SessionError) {
        do throws(SystemError) {
            try state.store(epoch, deviceState)
        } catch {
            throw SessionError(.system, "the device state of \(offer.vm) cannot be kept: \(error)")
        }
    }

    /// The device state that the apply of `epoch` starts from, or the newest one when there is nothing to apply.
    package func savedDeviceState(before epoch: Epoch?) -> [UInt8] {
        (epoch.map { state.load(before: $0) } ?? state.load())?.deviceState ?? []
    }

    // MARK: - The end of it

    /// Has QEMU load the state, and not run it. Everything committed is applied.
    package func load(from epoch: Epoch, deviceState: [UInt8]) throws(SessionError) {
        guest?.raiseCaller()
        do {
            guard let guest, let memory else { throw SessionError(.qemu, "no QEMU waits for its state") }
            try releaseDisks { () throws(StorageError) in try diskPart.release() }
            try guest.load(memory.unsharedBlocks, deviceState: deviceState)
        } catch {
            throw SessionError(.qemu, "\(offer.vm) cannot be resumed from checkpoint \(epoch): \(error)")
        }
    }

    /// Lets the guest that was loaded run; frames that the primary may not have let out go first.
    package func run(from epoch: Epoch, outputs held: [HeldOutput], decidedAt: UInt64) throws(SessionError)
        -> TakeOverReport
    {
        guest?.lowerVCPUs()
        do throws(SessionError) {
            return try letRun(from: epoch, held, decidedAt: decidedAt)
        } catch {
            throw SessionError(error.code, "\(offer.vm) was loaded and does not run: \(error.message)")
        }
    }

    /// Boots the guest from its disks, where no QEMU took its state, or none waits for it. Everything that came is applied. A QEMU
    /// that failed is gone before the other one starts, and with it its locks and taps; frames of committed epochs leave before
    /// the guest runs.
    package func boot(from epoch: Epoch, outputs held: [HeldOutput], decidedAt: UInt64) throws(SessionError)
        -> TakeOverReport
    {
        guest?.giveWay()
        // Of a guest that has no memory here yet.
        let memory = memoryPart == nil ? FreshMemory(command, places) : nil
        do {
            try releaseDisks { () throws(StorageError) in try diskPart.makeDurable() }
            try memory?.make()
            let started = try ReplicaGuest(
                places.guests.boot(command, logPath: Self.logPath(in: places.runtimeDirectory)), of: offer)
            guest = started
            pid.store(started.pid, ordering: .relaxed)
            try writeManifest()
            var report = try letRun(from: epoch, held, decidedAt: decidedAt)
            (report.isBooted, report.isStarted) = (memory == nil, memory != nil)
            return report
        } catch {
            guest?.giveWay()
            pid.store(0, ordering: .relaxed)
            memory?.remove()
            let reason = (error as? SessionError)?.message ?? "\(error)"
            let what =
                memory == nil
                ? "booted from its disk as of epoch \(epoch), which stays as it is"
                : "started from its disks, which stay as they are"
            throw SessionError(.qemu, "\(offer.vm) cannot be \(what): \(reason)")
        }
    }

    /// I22: what was in an image that did not take all of it is not known, whatever it says later.
    private func releaseDisks(_ body: () throws(StorageError) -> Void) throws(SessionError) {
        guard disksAreWhole else {
            throw SessionError(.storage, "an image was not written out in order before, so what it holds is not known")
        }
        do throws(StorageError) {
            try body()
        } catch {
            disksAreWhole = false
            throw SessionError(.storage, "\(error)")
        }
    }

    /// Once this is written down, a restarted agent takes the guest for one that runs.
    private func letRun(
        from epoch: Epoch, _ held: [HeldOutput], decidedAt: UInt64
    ) throws(SessionError) -> TakeOverReport {
        guard let guest else { throw SessionError(.qemu, "no QEMU has its state") }
        var report = TakeOverReport()
        report.epoch = epoch
        report.qmpPath = qmpPath
        report.qemuPID = qemuPID
        do throws(SystemError) {
            try ReplicaManifest.markUsedUp(places.memoryDirectory)
        } catch {
            throw SessionError(.system, "that \(offer.vm) runs here cannot be remembered: \(error)")
        }
        report.framesReleased = guest.send(held)
        try guest.run()
        report.decisionToRunning = MonotonicClock.now() - decidedAt
        return report
    }

    /// After the guest was resumed: takes our filters out of it and removes what only a replica needs.
    package func forgetStaging() {
        guest?.leave { log.warning("\($0)") }
        // What it has mapped stays, and may be the base of a later replica.
        places.bases.lend(offer.vm, from: places.memoryDirectory)
    }

    /// Ends the standby's QEMU; returns when the process is gone.
    package func endQEMU() { guest?.end() }

    /// Ends the standby's QEMU and removes the replica, except for its memory where that is to be the base of a later one.
    /// The disk images stay: they are the operator's.
    public func dismantle(keepingMemory: Bool) {
        guest?.kill()
        diskPart.close()
        MemoryReplica.giveUp(offer.vm, places, keepingMemory: keepingMemory)
    }
}
