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

/// Where a VM's replica lives on this host, and what its QEMU is to be like.
public struct ReplicaPlaces: Sendable {
    public var node: String
    /// On tmpfs: RAM, slots, device state. One directory for this VM alone.
    public var memoryDirectory: String
    /// Sockets and logs of this VM.
    public var runtimeDirectory: String
    public var standby: StandbyOptions
    /// What makes its guest.
    public var guests: any StandbyGuestSource
    /// Whether its QEMU has real-time priority when the guest is to go on.
    public var isRealTime: Bool
    /// What this host keeps of VMs' memory.
    public var bases: MemoryBases

    public init(
        node: String, memoryDirectory: String, runtimeDirectory: String, standby: StandbyOptions,
        guests: any StandbyGuestSource, isRealTime: Bool, bases: MemoryBases
    ) {
        self.node = node
        self.memoryDirectory = memoryDirectory
        self.runtimeDirectory = runtimeDirectory
        self.standby = standby
        self.guests = guests
        self.isRealTime = isRealTime
        self.bases = bases
    }
}

/// The standby's copy of a VM: RAM files, disk images, slots, and the QEMU that waits to become the guest.
///
/// Made whole or not at all: when a step fails, everything made before is removed again. Its files outlive the agent, so
/// that a restarted one can take it up; `dismantle` removes them.
public final class Replica: @unchecked Sendable {
    // SAFETY: the guest and the files are used by the apply thread only, after the thread that made the replica handed it
    // over; everything else is immutable or thread-safe by itself.

    /// What a later run of the agent must know, as JSON beside the RAM files.
    private struct Manifest: Codable {
        var offer: OfferMessage
        var peer: String
        var command: StandbyCommand
        var qemuPID: Int32
        var slotCapacity: Int
        var image: StandbyMachine.Image

        static func path(in directory: String) -> String { "\(directory)/manifest.json" }

        static func read(from directory: String) throws -> Manifest {
            try JSONDecoder().decode(
                Manifest.self, from: try Data(contentsOf: URL(fileURLWithPath: path(in: directory))))
        }

        func write(to directory: String) throws {
            try JSONEncoder().encode(self).write(to: URL(fileURLWithPath: Self.path(in: directory)), options: .atomic)
        }
    }

    /// The primary has no more epochs between capture and link than it has slabs. Their disk writes come ahead of their pages,
    /// and those of one more; the first of them can only be freed when the rest of it was taken in. Two are being applied.
    static let slotCount = Slab.count + 4

    public let offer: OfferMessage
    /// Which image this is; lives and dies with the files.
    public let image: StandbyMachine.Image
    public let command: StandbyCommand
    public let recovering: Bool
    /// Its QEMU has the state of the applied epoch already, from an earlier run of the agent.
    package var isLoaded: Bool { guest.isLoaded }
    public let peer: String
    package let memory: ReplicaMemory
    package let disks: [StagedDisk]
    package let slots: [StageSlot]
    package let appliedEpoch: Epoch
    /// Bytes of its memory that an older replica left here; the rest was zero at first.
    package let baseBytes: UInt64
    private let places: ReplicaPlaces
    private let guest: any StandbyGuest
    private let output: StandbyOutput
    private let state: DeviceStateFile
    /// Of QEMU's threads but the vCPUs, and of the thread that has it load the state: until the guest runs here.
    private var priority: RealTimePriority?
    private var callersPriority: RealTimePriority?
    /// Of the vCPUs, which take QEMU's lock while it loads: until they are let run.
    private var vcpusPriority: RealTimePriority?
    private let log: Logger

    public var qemuPID: Int32 { guest.pid }
    public var qmpPath: String { command.monitorPath }
    /// Readable once the waiting QEMU has ended.
    package var qemuExitDescriptor: Int32 { guest.exitDescriptor }
    /// How it ended, with its last words; nil while it runs.
    package var qemuEnding: String? { guest.ending }

    /// Makes everything that a standby of `offer` needs; seconds of work.
    public init(
        offer: OfferMessage, identity: StandbyIdentity, peer: String, places: ReplicaPlaces, log: Logger
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
            try Self.makeDirectory(places.runtimeDirectory)
            // Removed with the replica; what an earlier one left behind is of no use any more.
            try? FileManager.default.removeItem(atPath: places.memoryDirectory)
            places.bases.take(offer.vm, as: places.memoryDirectory)
            try Self.makeDirectory(places.memoryDirectory)
            let paths = try Self.paths(offer, command, places)
            let baseBytes = MemoryBases.fit(
                places.memoryDirectory,
                to: Dictionary(zip(paths, offer.blocks).lazy.filter(\.1.tracked).map { ($0, $1.length) }) { $1 })
            self.baseBytes = baseBytes
            undo.add {
                if baseBytes > 0 { return places.bases.keep(offer.vm, from: places.memoryDirectory) }
                try? FileManager.default.removeItem(atPath: places.memoryDirectory)
            }
            try Self.checkRoom(offer, places, present: baseBytes)
            memory = try ReplicaMemory(blocks: offer.blocks, paths: paths, recovering: false)
            let capacity = Self.slotCapacity(offer)
            slots = try (0..<Self.slotCount).map { (index) throws(SystemError) in
                try StageSlot(path: "\(places.memoryDirectory)/slot-\(index)", capacity: capacity)
            }
            state = try DeviceStateFile(path: "\(places.memoryDirectory)/device-state")
            disks = try Self.openDisks(offer, places, makesMissing: offer.createsImages ?? false)
            let disks = disks
            undo.add { for disk in disks { try? disk.image.close() } }
            guest = try places.guests.start(
                command, of: offer.guest, logPath: "\(places.runtimeDirectory)/qemu.log")
            let guest = guest
            undo.add { guest.kill() }
            output = try StandbyOutput(offer.nics, of: offer.guest, through: guest)
            raisePriority()
            try Manifest(
                offer: offer, peer: peer, command: command, qemuPID: guest.pid, slotCapacity: capacity, image: image
            ).write(to: places.memoryDirectory)
        } catch {
            undo.run()
            throw Self.refusal(offer, places.node, error)
        }
    }

    /// Takes up the replica of `vm` that an earlier run of the agent left in `places.memoryDirectory`.
    ///
    /// - Parameter standby: how this host's standby differs, from the configuration, given the offer.
    public init(
        recovering memoryDirectory: String, runtimeDirectory: String, node: String, bases: MemoryBases,
        guests: any StandbyGuestSource, isRealTime: Bool, standby: (OfferMessage) -> StandbyOptions, log: Logger
    ) throws(SessionError) {
        do {
            let manifest = try Manifest.read(from: memoryDirectory)
            guard !Self.isUsedUp(memoryDirectory) else {
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
            baseBytes = 0
            memory = try ReplicaMemory(
                blocks: offer.blocks, paths: Self.paths(offer, command, places), recovering: true)
            let slotPaths = (0..<Self.slotCount).map { "\(memoryDirectory)/slot-\($0)" }
            slots = try slotPaths.filter(FileManager.default.fileExists).map { (path) throws(SystemError) in
                try StageSlot(path: path, capacity: manifest.slotCapacity, recovering: true)
            }
            state = try DeviceStateFile(path: "\(memoryDirectory)/device-state")
            appliedEpoch = state.load()?.epoch ?? .firstCopy
            guard appliedEpoch > .firstCopy else {
                throw SessionError(.refused, "no checkpoint was complete")
            }
            guest = try guests.adopt(
                manifest.qemuPID, command, of: offer.guest, logPath: "\(runtimeDirectory)/qemu.log")
            // A guest that has its state has the images too.
            disks = guest.isLoaded ? [] : try Self.openDisks(offer, places, makesMissing: false)
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
        if let manifest = try? Manifest.read(from: memoryDirectory), !isUsedUp(memoryDirectory) {
            guests.endLeftover(manifest.qemuPID, manifest.command)
        }
        bases.keep(vm, from: memoryDirectory)
    }

    // MARK: - Making it

    /// The standby's command line, or everything that stands in the way of a replica.
    private static func admit(_ offer: OfferMessage, _ places: ReplicaPlaces) throws(SessionError) -> StandbyCommand {
        let admission = Admission(
            offer.vm, offer.guest, of: "\(offer.session.primary)", createsImages: offer.createsImages ?? false,
            places: places)
        guard admission.problems.isEmpty, let command = admission.command else {
            throw SessionError(.refused, admission.problems.joined(separator: "; "))
        }
        return command
    }

    private static func paths(
        _ offer: OfferMessage, _ command: StandbyCommand, _ places: ReplicaPlaces
    ) throws(SessionError) -> [String] {
        var paths: [String] = []
        for block in offer.blocks {
            if block.inSharedFile {
                guard let file = command.memoryFiles.first(where: { $0.block == block.name }) else {
                    throw SessionError(
                        .refused, "the standby's command line has no memory file for block \(block.name)")
                }
                paths.append(file.path)
            } else {
                paths.append("\(places.memoryDirectory)/\(GuestRAMBlock.fileName(ofBlock: Int(block.index)))")
            }
        }
        return paths
    }

    /// An epoch can touch every page and write to disks besides.
    private static func slotCapacity(_ offer: OfferMessage) -> Int {
        Int(ReplicaMemory.size(of: offer.blocks)) / 50 * 51 + (256 << 20)
    }

    /// The least room for what one epoch of a burst writes (a reboot, say); a large guest writes more.
    private static let burstMin: UInt64 = 64 << 20

    /// The RAM must fit now, with a burst beside it: a standby that finds out in the middle of an apply would be none.
    /// Bases of other VMs are given up for it.
    private static func checkRoom(
        _ offer: OfferMessage, _ places: ReplicaPlaces, present: UInt64
    ) throws(SessionError) {
        let wanted = roomWanted(offer.blocks) - present
        let parent = (places.memoryDirectory as NSString).deletingLastPathComponent
        while true {
            do throws(SessionError) {
                return try checkRoom(wanted, in: parent)
            } catch {
                guard places.bases.giveUpOldest() else { throw error }
            }
        }
    }

    /// Bytes for a guest's memory, and what arrives of it in a burst.
    static func roomWanted(_ blocks: [RAMBlock]) -> UInt64 {
        let memory = ReplicaMemory.size(of: blocks)
        return memory + UInt64(slotCount * (4 << 20)) + max(memory / 8, burstMin)
    }

    static func checkRoom(_ wanted: UInt64, in parent: String) throws(SessionError) {
        var info = statvfs()
        guard statvfs(parent, &info) == 0 else { return }
        let room = UInt64(info.f_bavail) * UInt64(info.f_frsize)
        let mebibytes = { (bytes: UInt64) in "\(bytes >> 20) MiB" }
        guard room >= wanted else {
            throw SessionError(
                .refused,
                "\(mebibytes(wanted)) are needed in \(parent) for its memory and \(mebibytes(room)) are free: give that"
                    + " file system more room (mount -o remount,size=…), or set memory_directory to one that has it")
        }
        let free = (try? HostMemory.available()) ?? .max
        guard free >= wanted else {
            throw SessionError(
                .refused,
                "\(mebibytes(wanted)) are needed for its memory and \(mebibytes(free)) are available on this host")
        }
    }

    private static func makeDirectory(_ path: String) throws(SessionError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw SessionError(.system, "\(path) cannot be made: \(error.localizedDescription)")
        }
    }

    /// With `makesMissing`, an image that is not there is made, empty and sparse.
    private static func openDisks(
        _ offer: OfferMessage, _ places: ReplicaPlaces, makesMissing: Bool
    ) throws -> [StagedDisk] {
        var disks: [StagedDisk] = []
        do {
            for disk in offer.disks {
                guard let found = offer.guest.disks.first(where: { $0.name == disk.id }) else {
                    throw SessionError(
                        .protocolBroken, "the offer names disk \(disk.id), which its guest does not have")
                }
                let target = places.standby.image(of: found, in: offer.guest)
                if makesMissing, !FileManager.default.fileExists(atPath: target.path) {
                    try makeImage(target.path, try format(of: target), disk.size)
                }
                let image = try DiskImage(
                    path: target.path, format: try format(of: target), expectedSize: disk.size,
                    kept: places.bases.digests)
                disks.append(StagedDisk(image: image))
            }
            return disks
        } catch {
            for disk in disks { try? disk.image.close() }
            throw error
        }
    }

    private static func format(of target: StandbyDisk) throws(SessionError) -> ImageFormat {
        guard let format = ImageFormat(rawValue: target.format) else {
            throw SessionError(
                .refused, "\(target.path): images of format \(target.format) cannot be written; use raw or qcow2")
        }
        return format
    }

    private static func makeImage(_ path: String, _ format: ImageFormat, _ size: UInt64) throws {
        let tool = Process()
        tool.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        tool.arguments = ["qemu-img", "create", "-q", "-f", format.rawValue, path, String(size)]
        let words = Pipe()
        tool.standardError = words
        try tool.run()
        let said = words.fileHandleForReading.readDataToEndOfFile()
        tool.waitUntilExit()
        guard tool.terminationStatus == 0 else {
            throw SessionError(
                .refused,
                "\(path) does not exist and cannot be made: qemu-img said: \(String(decoding: said, as: UTF8.self))")
        }
    }

    /// The guest is away for as long as its QEMU loads it, whatever else the host does then: QEMU comes first. Waiting, it
    /// wants nothing. What an earlier run of the agent left raised is given back where that is not wanted any more.
    private func raisePriority() {
        guard places.isRealTime || recovering else { return }
        do {
            let serving = try guest.servingThreads()
            let vcpus = Set(try ProcessFiles.threads(of: qemuPID)).subtracting(serving)
            priority = try RealTimePriority(threads: serving, priority: RealTimePriority.checkpoint)
            vcpusPriority = try RealTimePriority(threads: vcpus.sorted(), priority: RealTimePriority.checkpoint)
            if !places.isRealTime { lowerPriority() }
        } catch {
            log.warning("a failover of \(offer.vm) waits for a processor like everything else: \(error)")
        }
    }

    private func lowerPriority() {
        vcpusPriority = nil
        priority = nil
        callersPriority = nil
    }

    private static func refusal(_ offer: OfferMessage, _ node: String, _ error: any Error) -> SessionError {
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
        if priority != nil {
            callersPriority = try? RealTimePriority(
                threads: [NamedThread.currentID], priority: RealTimePriority.checkpoint)
        }
        do {
            for disk in disks { try disk.image.close() }
            try guest.load(memory.unsharedBlocks, deviceState: deviceState)
        } catch {
            throw SessionError(.qemu, "\(offer.vm) cannot be resumed from checkpoint \(epoch): \(error)")
        }
    }

    /// Lets the guest that was loaded run; frames that the primary may not have let out go first.
    package func run(from epoch: Epoch, outputs held: [HeldOutput], decidedAt: UInt64) throws(SessionError)
        -> TakeOverReport
    {
        var report = TakeOverReport()
        report.epoch = epoch
        report.qmpPath = qmpPath
        report.qemuPID = qemuPID
        vcpusPriority = nil
        do throws(SystemError) {
            try markUsedUp()
        } catch {
            throw SessionError(.system, "that \(offer.vm) runs here cannot be remembered: \(error)")
        }
        report.framesReleased = output.send(held)
        do throws(SessionError) {
            try guest.run()
        } catch {
            throw SessionError(.qemu, "\(offer.vm) was loaded and does not run: \(error)")
        }
        report.decisionToRunning = MonotonicClock.now() - decidedAt
        return report
    }

    /// A restarted agent must not resume the guest a second time.
    private func markUsedUp() throws(SystemError) {
        _ = try OwnedDescriptor.open(Self.usedUpMark(in: places.memoryDirectory), O_WRONLY | O_CREAT)
    }

    /// A file beside the manifest: the guest was let run from the replica.
    private static func usedUpMark(in directory: String) -> String { "\(directory)/used-up" }

    private static func isUsedUp(_ directory: String) -> Bool {
        FileManager.default.fileExists(atPath: usedUpMark(in: directory))
    }

    /// The QEMU, if it runs, of a guest that was resumed from the replica in `directory` by an agent that was then
    /// killed.
    public static func resumed(in directory: String) -> (pid: Int32, monitorPath: String, image: StandbyMachine.Image)?
    {
        guard let manifest = try? Manifest.read(from: directory), isUsedUp(directory) else { return nil }
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
        lowerPriority()
        guest.close()
        places.bases.lend(offer.vm, from: places.memoryDirectory)
    }

    /// Ends the standby's QEMU; returns when the process is gone.
    package func endQEMU() {
        repeat { guest.kill() } while guest.ending == nil
    }

    /// Ends the standby's QEMU and removes the replica, except for its memory where that is to be the base of a later one.
    /// The disk images stay: they are the operator's.
    public func dismantle(keepingMemory: Bool) {
        guest.kill()
        for disk in disks {
            disk.image.keepDigests(in: places.bases.digests)
            try? disk.image.close()
        }
        if keepingMemory { return places.bases.keep(offer.vm, from: places.memoryDirectory) }
        try? FileManager.default.removeItem(atPath: places.memoryDirectory)
    }
}

/// What to take back when a later step fails, newest first.
private struct Undo {
    private var steps: [() -> Void] = []
    mutating func add(_ step: @escaping () -> Void) { steps.append(step) }
    func run() { for step in steps.reversed() { step() } }
}

extension [StagedDisk] {
    /// The disk that a frame names.
    package func disk(_ index: UInt16) throws(SessionError) -> StagedDisk {
        guard Int(index) < count else {
            throw SessionError(.protocolBroken, "there is no disk \(index) in this session (it has \(count))")
        }
        return self[Int(index)]
    }
}

extension StandbyMachine.Image {
    init(_ offer: SessionOffer, identity: StandbyIdentity) {
        self.init(
            session: offer.session, identity: identity, term: offer.term, lineage: offer.lineage,
            primary: offer.primary, waits: offer.waits)
    }
}
