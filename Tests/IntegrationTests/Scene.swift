import Foundation
import Hypervisor
import QEMU
import TestBed

/// One protected guest with its two hosts: what most of these tests start from.
struct Scene {
    static let vm = "web"

    let bed: Bed
    let guest: GuestVM
    let pair: Pair
    let primaryDisk: String
    let standbyDisk: String
    /// What the primary's disk lies on, where it is slow.
    let storage: SlowDisk?
    /// The same of the standby's.
    let standbyStorage: SlowDisk?
    var address: String { guest.configuration.address }

    struct Wishes {
        var machine = GuestVM.Machine.pc
        /// Which QEMU the guest begins on; `pair.qemus` says which the standbys are.
        var qemu = QEMUProgram.installed
        var machineVersion: String?
        /// Its disk is read with O_DIRECT, from storage that takes so many milliseconds for it.
        var slowReads: Int?
        /// How QEMU reads and writes such a disk.
        var slowDrive = "aio=native"
        var graphics = GuestVM.Graphics.none
        var nic = GuestVM.NIC.Model.virtio
        /// Of the card; the output of more than one is held at the tap.
        var queues = 1
        var vcpus = 2
        var memoryMiB = 256
        var kernel = GuestImage.Kernel.cloud
        var hasTestMonitor = false
        var moreArguments: [String] = []
        /// Given the disk's image: the options of the card (on `tap0`) and the disk (`disk0`), instead of the usual ones.
        var wiring: (@Sendable (String) -> [String])?
        var standbyFormat = GuestDisk.Format.raw
        /// The standby's disk is storage that fails when told to.
        var standbyCanFail = false
        /// Lines below `vms: web: disks:` at host B, beside the first disk's.
        var standbyDiskLines: [String] = []
        /// Lines below `vms: web:` at host B, beside the disks.
        var standbyLines: [String] = []
        var pair = Pair.Options()
    }

    /// Boots the guest at host A and starts both agents; nothing is protected yet.
    static func make(on bed: Bed, _ wishes: Wishes = Wishes()) async throws -> Scene {
        let image = try GuestImage.build(kernel: wishes.kernel)
        var configuration = GuestVM.Configuration()
        configuration.name = vm
        configuration.machine = wishes.machine
        configuration.graphics = wishes.graphics
        configuration.vcpus = wishes.vcpus
        configuration.memoryMiB = wishes.memoryMiB
        configuration.nics = [GuestVM.NIC(wishes.nic, queues: wishes.queues)]
        configuration.hasTestMonitor = wishes.hasTestMonitor
        configuration.moreArguments = wishes.moreArguments
        let primaryDisk = "\(bed.a.stateDirectory)/web.raw"
        configuration.qemu = wishes.qemu
        configuration.machineVersion = wishes.machineVersion
        configuration.disks = [try GuestDisk.create(primaryDisk, mebibytes: 64, content: .random(seed: 7))]
        var storage: SlowDisk?
        if let delay = wishes.slowReads {
            let slow = try await SlowDisk.start(on: bed.a, image: primaryDisk, delayMilliseconds: Double(delay))
            configuration.disks[0].path = slow.path
            configuration.driveOptions = ["cache=none", wishes.slowDrive]
            storage = slow
        }
        configuration.wiring = wishes.wiring?(primaryDisk)
        let standbyDisk = "\(bed.b.stateDirectory)/web.\(wishes.standbyFormat.rawValue)"
        _ = try GuestDisk.create(standbyDisk, format: wishes.standbyFormat, mebibytes: 64)
        var standbyStorage: SlowDisk?
        if wishes.standbyCanFail {
            standbyStorage = try await SlowDisk.start(on: bed.b, image: standbyDisk, delayMilliseconds: 0)
        }
        let standbyPath = standbyStorage?.path ?? standbyDisk
        var options = wishes.pair
        options.vms["a"] = ["  \(vm):", "    disks:", "      disk0: {path: \(primaryDisk), format: raw}"]
        options.vms["b"] =
            [
                "  \(vm):", "    disks:",
                "      disk0: {path: \(standbyPath), format: \(wishes.standbyFormat.rawValue)}",
            ] + wishes.standbyDiskLines + wishes.standbyLines
        try bed.b.addTap("tap0", kind: configuration.nics[0].tapKind)
        let guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
        let pair = try await Pair(on: bed, options)
        return Scene(
            bed: bed, guest: guest, pair: pair, primaryDisk: primaryDisk, standbyDisk: standbyDisk, storage: storage,
            standbyStorage: standbyStorage)
    }

    /// Wishes for a second disk, `/dev/vdb`, whose image at the standby lies on storage of its own, and that storage.
    static func wishesForData(
        on bed: Bed, mebibytes: Int, delayMilliseconds: Int
    ) async throws -> (Wishes, SlowDisk) {
        let (primary, standby) = ("\(bed.a.stateDirectory)/data.raw", "\(bed.b.stateDirectory)/data.raw")
        for image in [primary, standby] {
            _ = try GuestDisk.create(image, mebibytes: mebibytes, content: .sectorNumbers)
        }
        let storage = try await SlowDisk.start(on: bed.b, image: standby, delayMilliseconds: Double(delayMilliseconds))
        var wishes = Wishes()
        wishes.moreArguments = [
            "-drive", "file=\(primary),format=raw,if=none,id=data", "-device", "virtio-blk-pci,drive=data",
        ]
        wishes.standbyDiskLines = ["      data: {path: \(storage.path), format: raw}"]
        return (wishes, storage)
    }

    static func load(pages: Int = 300) -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.dirtying = GuestControl.Dirtying(pages: pages, periodMs: 20, workingSet: 4096, pattern: .counter)
        return plan
    }

    /// The other host is gone; the operator says so to this one: B unless it says otherwise.
    func failOver(at survivor: BedHost? = nil) async throws {
        let host = survivor ?? bed.b
        try await pair.wait(host, Self.vm, for: "peer_lost", within: .seconds(60))
        let outcome = try pair.romulus(host, ["failover", Self.vm, "--yes"])
        guard outcome.status == 0 else { throw BedError("romulus failover: \(outcome.errors)") }
        try await pair.wait(host, Self.vm, for: "running", within: .seconds(60))
    }

    /// The first copies of the VM's memory from `host`, A unless it says otherwise, oldest first.
    func memoryCopies(from host: BedHost? = nil) throws -> [Pair.MemoryCopy] {
        try pair.memoryCopies(host ?? bed.a, Self.vm)
    }

    /// A monitor of the guest beside the one that the agent uses.
    func testMonitor() throws -> QMPConnection { try QMPConnection(path: guest.testMonitorPath) }
}
