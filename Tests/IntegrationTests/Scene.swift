import Foundation
import QEMU
import TestBed

/// One protected guest with its two hosts: what most of these tests start from.
struct Scene {
    static let vm = "web"

    let bed: Bed
    let guest: GuestVM
    let pair: Pair
    let standbyDisk: String
    var address: String { guest.configuration.address }

    struct Wishes {
        var machine = GuestVM.Machine.pc
        var graphics = GuestVM.Graphics.none
        var nic = GuestVM.NIC.Model.virtio
        var vcpus = 2
        var memoryMiB = 256
        var kernel = GuestImage.Kernel.cloud
        var hasTestMonitor = false
        var moreArguments: [String] = []
        var standbyFormat = GuestDisk.Format.raw
        /// Lines below `vms: web:` at host B, beside the disk.
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
        configuration.nics = [GuestVM.NIC(wishes.nic)]
        configuration.hasTestMonitor = wishes.hasTestMonitor
        configuration.moreArguments = wishes.moreArguments
        configuration.disks = [
            try GuestDisk.create("\(bed.a.stateDirectory)/web.raw", mebibytes: 64, content: .random(seed: 7))
        ]
        let standbyDisk = "\(bed.b.stateDirectory)/web.\(wishes.standbyFormat.rawValue)"
        var options = wishes.pair
        options.vms +=
            [
                "  \(vm):", "    disks:",
                "      disk0: {path: \(standbyDisk), format: \(wishes.standbyFormat.rawValue)}",
            ] + wishes.standbyLines
        try bed.b.addTap("tap0")
        let guest = try GuestVM.start(on: bed.a, image: image, configuration)
        try await guest.waitUntilReady()
        let pair = try await Pair(on: bed, options)
        return Scene(bed: bed, guest: guest, pair: pair, standbyDisk: standbyDisk)
    }

    static func load(pages: Int = 300) -> Verifier.Plan {
        var plan = Verifier.Plan()
        plan.dirtying = GuestControl.Dirtying(pages: pages, periodMs: 20, workingSet: 4096, pattern: .counter)
        return plan
    }

    /// Host A is gone; the operator says so to host B.
    func failOver() async throws {
        try await pair.wait(bed.b, Self.vm, for: "peer_lost", within: .seconds(60))
        let outcome = try pair.romulus(bed.b, ["failover", Self.vm, "--yes"])
        guard outcome.status == 0 else { throw BedError("romulus failover: \(outcome.errors)") }
        try await pair.wait(bed.b, Self.vm, for: "running", within: .seconds(60))
    }

    /// A monitor of the guest beside the one that the agent uses.
    func testMonitor() throws -> QMPConnection { try QMPConnection(path: guest.testMonitorPath) }
}
