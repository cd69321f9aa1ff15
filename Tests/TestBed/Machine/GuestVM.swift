import Foundation

/// A stock QEMU with the test guest, started in a host of the bed.
public final class GuestVM: Sendable {
    public enum Machine: String, Sendable, CaseIterable {
        case pc
        case q35
    }

    public enum Graphics: String, Sendable, CaseIterable {
        case none
        case std
    }

    public struct NIC: Sendable {
        public enum Model: String, Sendable, CaseIterable {
            case virtio = "virtio-net-pci"
            /// Only the generic kernel has a driver for it (`GuestImage.build(kernel: .generic)`).
            case e1000
        }
        public var model: Model
        public var tap: String
        public var mac: String
        public var queues: Int
        public init(
            _ model: Model = .virtio, tap: String = "tap0", mac: String = "52:54:00:00:01:0a", queues: Int = 1
        ) {
            self.model = model
            self.tap = tap
            self.mac = mac
            self.queues = queues
        }

        /// Words of “ip tuntap” for its tap.
        public var tapKind: String { queues > 1 ? "multi_queue" : "" }

        func options(_ index: Int) -> [String] {
            let queued = (netdev: queues > 1 ? ",queues=\(queues)" : "", card: queues > 1 ? ",mq=on" : "")
            return [
                "-netdev", "tap,id=net\(index),ifname=\(tap),script=no,downscript=no,vhost=off\(queued.netdev)",
                "-device", "\(model.rawValue),netdev=net\(index),mac=\(mac)\(queued.card)",
            ]
        }
    }

    /// What the disks hang on; the guest calls them /dev/vda, … or /dev/sda, …
    public enum DiskBus: String, Sendable, CaseIterable {
        case virtio = "virtio-blk-pci"
        /// The IDE controller of `pc`, the AHCI controller of `q35`.
        case ide = "ide-hd"
    }

    public struct Configuration: Sendable {
        public var name = "guest"
        /// Which QEMU runs it.
        public var qemu = QEMUProgram.installed
        public var machine = Machine.pc
        /// The version of the machine type, such as `7.2`; nil takes the newest that QEMU has.
        public var machineVersion: String?
        public var vcpus = 2
        public var memoryMiB = 256
        public var graphics = Graphics.none
        public var nics = [NIC()]
        public var disks: [GuestDisk] = []
        public var diskBus = DiskBus.virtio
        /// More options of every disk's `-drive`, such as `cache=none`.
        public var driveOptions: [String] = []
        /// On the guest LAN, 10.78.0.0/16, and of the first NIC.
        public var address = "10.78.1.10"
        /// A second monitor for the test, at `testMonitorPath`: QEMU serves one client for each.
        public var hasTestMonitor = false
        public var usesKVM = ProcessInfo.processInfo.environment["ROMULUS_ACCEL"] == "kvm"
        public var moreArguments: [String] = []
        /// The options of cards and disks as somebody else would write them, instead of ours.
        public var wiring: [String]?
        public init() {}

        fileprivate var machineType: String {
            guard let machineVersion else { return machine.rawValue }
            return "pc-\(machine == .pc ? "i440fx" : "q35")-\(machineVersion)"
        }

        /// Two disks share a cable on `pc`; on `q35` each has a port.
        fileprivate func place(ofDisk index: Int) -> String {
            switch (diskBus, machine) {
            case (.virtio, _): diskBus.rawValue
            case (.ide, .pc): "\(diskBus.rawValue),bus=ide.\(index / 2),unit=\(index % 2)"
            case (.ide, .q35): "\(diskBus.rawValue),bus=ide.\(index)"
            }
        }
    }

    public let configuration: Configuration
    public let host: BedHost
    public let process: Child
    /// The whole command line, without the entry into the host.
    public let arguments: [String]
    public let monitorPath: String
    public let testMonitorPath: String
    public let serialPath: String
    private let readyWord: String

    /// Makes the taps (where the host has none of that name) and starts QEMU.
    public static func start(
        on host: BedHost, image: GuestImage, _ configuration: Configuration
    ) throws(BedError) -> GuestVM {
        for nic in configuration.nics where !host.hasLink(nic.tap) { try host.addTap(nic.tap, kind: nic.tapKind) }
        return try GuestVM(host: host, image: image, configuration: configuration)
    }

    /// A guest boots within some seconds, and within three times as many on a busy machine.
    private static let bootLimit = Duration.seconds(40)

    /// Starts a guest and waits until it is ready. QEMU with two emulated vCPUs now and then leaves a booting guest with both
    /// of them standing still, which its kernel notices unless it is too early for that, or ends by a segmentation fault (seen
    /// once in some hundred boots of QEMU 7.2); then it is started anew. Nothing of
    /// Romulus has touched it yet.
    public static func boot(
        on host: BedHost, image: GuestImage, _ configuration: Configuration
    ) async throws -> GuestVM {
        var triesLeft = 2
        while true {
            let guest = try start(on: host, image: image, configuration)
            do {
                try await guest.waitUntilReady(within: triesLeft > 0 ? bootLimit : .seconds(120))
                return guest
            } catch {
                let isOver = guest.process.exit != nil
                guard triesLeft > 0, !isOver || guest.process.exit == .signal(SIGSEGV) else { throw error }
                triesLeft -= 1
                if !isOver { try await guest.killAndWait() }
            }
        }
    }

    private init(host: BedHost, image: GuestImage, configuration: Configuration) throws(BedError) {
        self.host = host
        self.configuration = configuration
        let base = "\(host.runtimeDirectory)/\(configuration.name)"
        monitorPath = "\(base).qmp"
        testMonitorPath = "\(base).test.qmp"
        serialPath = "\(host.logDirectory)/\(configuration.name).serial"
        readyWord = "\(getpid()).\(UInt32.random(in: 0...UInt32.max))"
        var words = [
            try configuration.qemu.path(), "-name", configuration.name, "-machine", configuration.machineType,
            "-accel", configuration.usesKVM ? "kvm" : "tcg", "-smp", "\(configuration.vcpus)",
            "-m", "\(configuration.memoryMiB)", "-nodefaults", "-no-user-config", "-display", "none",
            "-vga", configuration.graphics.rawValue, "-serial", "file:\(serialPath)",
            "-qmp", "unix:\(monitorPath),server=on,wait=off",
        ]
        if configuration.usesKVM { words += ["-cpu", "host"] }
        if configuration.hasTestMonitor { words += ["-qmp", "unix:\(testMonitorPath),server=on,wait=off"] }
        words += ["-kernel", image.kernelPath, "-initrd", image.initrdPath, "-append"]
        // no_timer_check: on a busy machine TCG is late with the interrupts that the kernel's check of its timer counts.
        words.append(
            "console=ttyS0 quiet panic=-1 net.ifnames=0 random.trust_cpu=on no_timer_check "
                + "bed.ip=\(configuration.address)/16 bed.gateway=10.78.0.1 bed.ready=\(readyWord)")
        for (index, nic) in configuration.nics.enumerated() where configuration.wiring == nil {
            words += nic.options(index)
        }
        for (index, disk) in configuration.disks.enumerated() where configuration.wiring == nil {
            words += [
                "-drive",
                (["file=\(disk.path)", "format=\(disk.format.rawValue)", "if=none", "id=disk\(index)"]
                    + ["werror=stop", "rerror=stop"] + configuration.driveOptions).joined(separator: ","),
                "-device", "\(configuration.place(ofDisk: index)),drive=disk\(index)",
            ]
        }
        arguments = words + (configuration.wiring ?? []) + configuration.moreArguments
        process = try host.spawn(arguments, name: configuration.name)
    }

    public var pid: pid_t { process.pid }

    /// What the guest wrote on its console.
    public var console: String {
        String(decoding: FileManager.default.contents(atPath: serialPath) ?? Data(), as: UTF8.self)
    }

    /// Its kernel says that its vCPUs do not come on.
    private var isLockedUp: Bool { console.contains("BUG: soft lockup") }

    /// Waits until the guest's services listen. Fails at once, with QEMU's own words, when QEMU ends.
    public func waitUntilReady(within limit: Duration = .seconds(120)) async throws {
        let line = "ROMULUS-GUEST READY \(readyWord)"
        do {
            try await eventually("READY of \(configuration.name)", within: limit) {
                if console.contains(line) { return true }
                if let exit = process.exit {
                    throw BedError("QEMU of \(configuration.name) ended (\(exit)): \(process.errors)")
                }
                if isLockedUp { throw BedError("the vCPUs of \(configuration.name) stand still.") }
                return nil as Bool?
            }
        } catch {
            throw BedError("\(error) Its console: \(console.suffix(2000))")
        }
    }

    /// Kills QEMU with SIGKILL and waits until it is gone.
    public func killAndWait() async throws { try await process.killAndWait() }
}
