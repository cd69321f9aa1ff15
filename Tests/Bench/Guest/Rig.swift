import Foundation
import Hypervisor
import Model
import QEMU
import RomulusAPI
import TestBed

/// A guest with its pair of agents, which a part protects and leaves alone in turns.
struct Rig {
    static let vm = "bench"

    /// What a part wants different from a guest with 256 MiB of private memory, 2 vCPUs, one disk and one NIC.
    struct Wishes {
        var mebibytes = 256
        var vcpus = 2
        var diskMebibytes = 64
        /// How long the disk takes for each read and write, in milliseconds; nil: it is a file in memory.
        var diskDelay: Double?
        /// Whether the disk can be made to fail. It has no delay then.
        var breaks = false
        /// Lines of the configuration's section `defaults`.
        var defaults: [String] = []
        /// As in `GuestVM.Configuration`.
        var driveOptions: [String] = []
        /// Whether the guest's memory is a shared file that others can map, as with libvirt's `<source type='memfd'/>`.
        var isShared = false
        var epochs = Epochs.onOutput
        /// Whether an arbiter decides, without which there is level system only.
        var hasArbiter = false
    }

    /// When epochs end.
    enum Epochs {
        /// As the agents do by default.
        case onOutput
        /// After `--epoch-ms`, whatever the guest does: as in Remus.
        case fixed(milliseconds: Int)

        /// Lines of the configuration's section `defaults`.
        var defaults: [String] {
            switch self {
            case .onOutput: []
            case .fixed(let milliseconds): ["checkpoint_on_output: false", "idle_epoch_ms: \(milliseconds)"]
            }
        }
    }

    let bed: Bed
    let guest: GuestVM
    let pair: Pair
    let control: GuestControl
    /// Of a disk that breaks, or takes its time.
    let storage: SlowDisk?

    init(_ bed: Bed, _ image: GuestImage, _ wishes: Wishes = Wishes()) async throws {
        self.bed = bed
        var configuration = GuestVM.Configuration()
        configuration.memoryMiB = wishes.mebibytes
        configuration.vcpus = wishes.vcpus
        configuration.name = Self.vm
        configuration.hasTestMonitor = true
        if wishes.isShared {
            configuration.moreArguments = [
                "-object", "memory-backend-memfd,id=ram0,size=\(wishes.mebibytes)M,share=on",
                "-machine", "memory-backend=ram0",
            ]
        }
        configuration.driveOptions = wishes.driveOptions
        configuration.disks = [
            try GuestDisk.create(
                "\(bed.a.stateDirectory)/bench.raw", mebibytes: wishes.diskMebibytes, content: .random(seed: 3))
        ]
        if let delay = wishes.breaks ? 0 : wishes.diskDelay {
            let storage = try await SlowDisk.start(
                on: bed.a, image: configuration.disks[0].path, delayMilliseconds: delay, isForWrites: true)
            configuration.disks[0].path = storage.path
            self.storage = storage
        } else {
            storage = nil
        }
        try bed.b.addTap("tap0")
        guest = try await GuestVM.boot(on: bed.a, image: image, configuration)
        var options = Self.options(bed, wishes.epochs)
        if wishes.hasArbiter { options.arbiter = .witness }
        options.defaults += wishes.defaults
        pair = try await Pair(on: bed, options)
        control = GuestControl(client: bed.client, address: configuration.address)
    }

    /// - Parameter fault: what is planted in the agent of host A.
    private static func options(_ bed: Bed, _ epochs: Epochs, fault: String? = nil) -> Pair.Options {
        var options = Pair.Options()
        if let fault {
            options.program = "romulusd-planted"
            options.environment = ["ROMULUS_PLANTED_FAULT": fault]
        }
        options.vms["b"] = ["  \(vm):", "    disks:", "      disk0: \(bed.b.stateDirectory)/bench.raw"]
        options.logLevel = "warning"
        options.defaults = epochs.defaults
        return options
    }

    /// The load of most parts: about 300 pages in 20 ms.
    func dirtySome() throws {
        try control.dirty(GuestControl.Dirtying(pages: 300, periodMs: 20, workingSet: 4096, pattern: .counter))
    }

    /// Protects the guest and gives the first epochs time to pass.
    func protect(
        epochMilliseconds: Int? = nil, settle seconds: Double = 1, _ more: [String] = []
    ) async throws {
        try await pair.protect(guest, (epochMilliseconds.map { ["--epoch-ms", "\($0)"] } ?? []) + more)
        try await Task.sleep(for: .seconds(seconds))
    }

    func unprotect() async throws {
        let outcome = try pair.romulus(bed.a, ["unprotect", Self.vm])
        guard outcome.status == 0 else { throw BedError("unprotect: \(outcome.errors)") }
        try await eventually("the replica is given up", within: .seconds(30)) {
            try pair.status(bed.b, Self.vm) == nil ? true : nil
        }
    }

    /// Starts the agents anew with other epochs, and with a fault planted in that of host A; the guest is not protected.
    func setEpochs(_ epochs: Epochs, fault: String? = nil) async throws {
        try await pair.restart(Self.options(bed, epochs, fault: fault))
    }

    /// What the agent of host A says of the guest, which must be protected.
    func status() throws -> Pair.Status {
        guard let status = try pair.status(bed.a, Self.vm), status.state == "protected" else {
            throw BedError("the guest is not protected any more")
        }
        return status
    }

    /// Counters of host A's agent.
    func counters() async throws -> Counters {
        try Counters(await AgentClient(socket: Pair.socket(bed.a)).metrics())
    }
}

/// What the agent has counted for the guest so far; two of them tell what happened in between.
struct Counters {
    var epochs: Double
    var dirtyPages: Double
    var sentBytes: Double
    var cpuSeconds: Double

    init(_ text: String) throws {
        func value(_ name: String, _ label: String? = nil) throws -> Double {
            for line in text.split(separator: "\n") where line.hasPrefix(name) {
                if let label, !line.contains(label) { continue }
                if let value = line.split(separator: " ").last.flatMap({ Double($0) }) { return value }
            }
            throw BedError("the agent has no metric \(name) \(label ?? "")")
        }
        epochs = try value("romulus_epochs_total{", "committed")
        dirtyPages = try value("romulus_dirty_pages_total{")
        sentBytes = try value("romulus_link_sent_bytes_total{")
        cpuSeconds = try value("process_cpu_seconds_total")
    }

    static func - (a: Counters, b: Counters) -> Counters {
        var difference = a
        difference.epochs -= b.epochs
        difference.dirtyPages -= b.dirtyPages
        difference.sentBytes -= b.sentBytes
        difference.cpuSeconds -= b.cpuSeconds
        return difference
    }
}
