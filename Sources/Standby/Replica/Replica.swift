import Foundation
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

/// The standby's copy of a VM: RAM files, disk images, slots, and the QEMU that waits to become the guest.
///
/// Made whole or not at all: when a step fails, everything made before is removed again. Its files outlive the agent, so
/// that a restarted one can take it up; `dismantle` removes them.
public final class Replica: @unchecked Sendable {
    // SAFETY: the guest, its ways out and the files are used by the apply thread only, after the thread that made the replica
    // handed it over; everything else is immutable or thread-safe by itself.

    public let offer: OfferMessage
    /// Which image this is; lives and dies with the files.
    public let image: StandbyMachine.Image
    public let command: StandbyCommand
    public let recovering: Bool
    /// Its QEMU has the state of the applied epoch already, from an earlier run of the agent.
    package var isLoaded: Bool { guest.isLoaded }
    public let peer: NodeName
    package let appliedEpoch: Epoch
    private let places: ReplicaPlaces
    private let memoryPart: MemoryReplica
    private let diskPart: DiskReplica
    private let stage: StageFiles
    private let state: DeviceStateFile
    private var guest: any StandbyGuest
    /// Of the guest, for whoever asks.
    private let pid: Atomic<Int32>
    private var output: StandbyOutput
    /// The images were let go of in order.
    private var disksAreWhole = true
    /// From the beginning until the guest was resumed here.
    private var priority: TakeOverPriority?
    private let log: Logger

    package var memory: ReplicaMemory { memoryPart.memory }
    /// Bytes of its memory that an older replica left here; the rest was zero at first.
    package var baseBytes: UInt64 { memoryPart.baseBytes }
    package var disks: [StagedDisk] { diskPart.staged }
    package var slots: [StageSlot] { stage.slots }
    public var qemuPID: Int32 { pid.load(ordering: .relaxed) }
    public var qmpPath: String { command.monitorPath }
    /// Readable once the waiting QEMU has ended.
    package var qemuExitDescriptor: Int32 { guest.exitDescriptor }
    /// How it ended, with its last words; nil while it runs.
    package var qemuEnding: String? { guest.ending }

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
            let memoryPart = try MemoryReplica(offer, command, places)
            self.memoryPart = memoryPart
            undo.add { memoryPart.giveUp(keepingMemory: memoryPart.baseBytes > 0) }
            stage = try StageFiles(in: places.memoryDirectory, for: offer.blocks)
            state = try DeviceStateFile(path: Self.statePath(in: places.memoryDirectory))
            let diskPart = try DiskReplica(
                offer, places.standby, kept: places.bases.digests, makesMissing: offer.createsImages ?? false)
            self.diskPart = diskPart
            undo.add { diskPart.abandon() }
            let guest = try places.guests.start(
                command, of: offer.guest, logPath: Self.logPath(in: places.runtimeDirectory))
            self.guest = guest
            pid = Atomic(guest.pid)
            undo.add { guest.kill() }
            output = try StandbyOutput(offer.nics, of: offer.guest, through: guest)
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
            memoryPart = try MemoryReplica(recovering: offer, command, places)
            stage = try StageFiles(recovering: memoryDirectory, capacity: manifest.slotCapacity)
            state = try DeviceStateFile(path: Self.statePath(in: memoryDirectory))
            appliedEpoch = state.load()?.epoch ?? .firstCopy
            guard appliedEpoch > .firstCopy else {
                throw SessionError(.refused, "no checkpoint was complete")
            }
            guest = try guests.adopt(
                manifest.qemuPID, command, of: offer.guest, logPath: Self.logPath(in: runtimeDirectory))
            pid = Atomic(manifest.qemuPID)
            // A guest that has its state has the images too.
            diskPart =
                guest.isLoaded
                ? DiskReplica(takenOver: offer, places.standby, kept: bases.digests)
                : try DiskReplica(offer, places.standby, kept: bases.digests, makesMissing: false)
            output = try StandbyOutput(offer.nics, of: offer.guest, through: guest)
            raisePriority()
        } catch {
            throw SessionError(.refused, "the replica in \(memoryDirectory) is of no use: \(error)")
        }
    }

    /// VMs whose replicas an earlier run of the agent left in `directory`.
    public static func leftBehind(in directory: String) -> [VMName] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).compactMap(VMName.init).sorted()
    }

    /// Ends the QEMU of a replica that cannot be taken up, and keeps its memory as a base.
    public static func keepLeftover(
        _ vm: VMName, _ memoryDirectory: String, guests: any StandbyGuestSource, _ bases: MemoryBases
    ) {
        if let manifest = try? ReplicaManifest.read(from: memoryDirectory), !ReplicaManifest.isUsedUp(memoryDirectory) {
            guests.endLeftover(manifest.qemuPID, manifest.command)
        }
        bases.keep(vm, from: memoryDirectory)
    }

    // MARK: - Making it

    /// The standby's command line, or everything that stands in the way of a replica.
    private static func admit(_ offer: OfferMessage, _ places: ReplicaPlaces) throws(SessionError) -> StandbyCommand {
        // Nothing here would wait for its primary's lease.
        guard offer.session.level == .system else {
            throw SessionError(
                .refused,
                "it is offered at level \(offer.session.level.rawValue), and this version keeps standbys at level system"
                    + " only")
        }
        let admission = Admission(
            offer.vm, offer.guest, of: offer.session.primary, createsImages: offer.createsImages ?? false,
            places: places)
        guard admission.problems.isEmpty, let command = admission.command else {
            throw SessionError(.refused, admission.problems.joined(separator: "; "))
        }
        return command
    }

    private func writeManifest() throws {
        try ReplicaManifest(
            offer: offer, peer: peer, command: command, qemuPID: qemuPID, slotCapacity: stage.capacity, image: image
        ).write(to: places.memoryDirectory)
    }

    private static func statePath(in directory: String) -> String { "\(directory)/device-state" }

    private static func logPath(in directory: String) -> String { "\(directory)/qemu.log" }

    /// What an earlier run of the agent left raised is given back where that is not wanted any more.
    private func raisePriority() {
        guard places.isRealTime || recovering else { return }
        do {
            priority = try TakeOverPriority(raising: guest)
            if !places.isRealTime { priority = nil }
        } catch {
            log.warning("a failover of \(offer.vm) waits for a processor like everything else: \(error)")
        }
    }

    private static func refusal(_ offer: OfferMessage, _ node: NodeName, _ error: any Error) -> SessionError {
        if let error = error as? SessionError {
            return SessionError(error.code, "\(node) cannot be the standby of \(offer.vm): \(error.message)")
        }
        return SessionError(.refused, "\(node) cannot be the standby of \(offer.vm): \(error)")
    }

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
        priority?.raiseCaller()
        do {
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
        priority?.lowerVCPUs()
        do throws(SessionError) {
            return try letRun(from: epoch, held, decidedAt: decidedAt)
        } catch {
            throw SessionError(error.code, "\(offer.vm) was loaded and does not run: \(error.message)")
        }
    }

    /// Boots the guest from its disks, where no QEMU took its state. Everything committed is applied. The QEMU that failed is
    /// gone before the other one starts, and with it its locks and taps; frames of committed epochs leave before the guest runs.
    package func boot(from epoch: Epoch, outputs held: [HeldOutput], decidedAt: UInt64) throws(SessionError)
        -> TakeOverReport
    {
        endQEMU()
        priority = nil
        // They led into that QEMU, or lie at the taps that the next one opens.
        output.detach { _ in }
        do {
            try releaseDisks { () throws(StorageError) in try diskPart.makeDurable() }
            guest = try places.guests.boot(command, logPath: Self.logPath(in: places.runtimeDirectory))
            pid.store(guest.pid, ordering: .relaxed)
            output = try StandbyOutput(offer.nics, of: offer.guest, through: guest)
            try writeManifest()
            var report = try letRun(from: epoch, held, decidedAt: decidedAt)
            report.isBooted = true
            return report
        } catch {
            endQEMU()
            let reason = (error as? SessionError)?.message ?? "\(error)"
            throw SessionError(
                .qemu,
                "\(offer.vm) cannot be booted from its disk as of epoch \(epoch), which stays as it is: \(reason)")
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
        var report = TakeOverReport()
        report.epoch = epoch
        report.qmpPath = qmpPath
        report.qemuPID = qemuPID
        do throws(SystemError) {
            try ReplicaManifest.markUsedUp(places.memoryDirectory)
        } catch {
            throw SessionError(.system, "that \(offer.vm) runs here cannot be remembered: \(error)")
        }
        report.framesReleased = output.send(held)
        try guest.run()
        report.decisionToRunning = MonotonicClock.now() - decidedAt
        return report
    }

    /// The QEMU, if it runs, of a guest that was resumed from the replica in `directory` by an agent that was then
    /// killed.
    public static func resumed(in directory: String) -> (pid: Int32, monitorPath: String, image: StandbyMachine.Image)?
    {
        guard let manifest = try? ReplicaManifest.read(from: directory), ReplicaManifest.isUsedUp(directory) else {
            return nil
        }
        return (manifest.qemuPID, manifest.command.monitorPath, manifest.image)
    }

    /// After the guest was resumed: takes our filters out of it and removes what only a replica needs.
    package func forgetStaging() {
        do throws(SessionError) {
            try guest.forgetSharing()
        } catch {
            log.warning("\(offer.vm) cannot be migrated by others before it is started anew: \(error)")
        }
        output.detach { log.warning("a filter could not be taken out of \(offer.vm): \($0)") }
        priority = nil
        guest.close()
        memoryPart.lend()
    }

    /// Ends the standby's QEMU; returns when the process is gone.
    package func endQEMU() {
        repeat { guest.kill() } while guest.ending == nil
    }

    /// Ends the standby's QEMU and removes the replica, except for its memory where that is to be the base of a later one.
    /// The disk images stay: they are the operator's.
    public func dismantle(keepingMemory: Bool) {
        guest.kill()
        diskPart.close()
        memoryPart.giveUp(keepingMemory: keepingMemory)
    }
}

extension StandbyMachine.Image {
    init(_ offer: SessionOffer, identity: StandbyIdentity) {
        self.init(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
    }
}
