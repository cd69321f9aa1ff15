import Model

/// Everything about a running VM that its standby must share: sent to the standby's agent as JSON.
public struct GuestDescription: Hashable, Sendable, Codable {
    public var process: ProcessIdentity
    public var qemu: QEMUVersion
    /// QEMU's executable, resolved.
    public var executable: String
    /// `/proc/PID/cmdline`, the program name first, with the options of `-readconfig` files in their place.
    public var arguments: [String]
    public var workingDirectory: String
    /// `-name`'s guest name; empty when there is none.
    public var guestName: String
    /// The concrete machine type as the migration stream names it, for example `pc-i440fx-7.2`.
    public var machineType: String
    public var accelerator: Accelerator
    public var vcpus: [GuestCPU]
    /// Bytes: RAM of the board, and RAM plugged in as memory devices.
    public var memorySize: MemorySize
    /// In QEMU's own order, which is the order of the migration stream's list. Blocks without a name (memory backends
    /// that no device uses) are left out, as in the stream.
    public var blocks: [GuestRAMBlock]
    public var disks: [GuestDisk]
    public var nics: [GuestNIC]
    /// Devices from `-device` and `device_add`, sorted by path.
    public var devices: [GuestDevice]
    /// From `-uuid`; nil where QEMU has none, and from older agents.
    public var identity: VMIdentity?
    /// What the operator should know of it, one sentence each; nil when there is nothing.
    public var notes: [String]?

    /// The blocks as the rest of Romulus names them: only tracked ones, with the position within `blocks` as index.
    /// A block with a memory backend can lie in a shared file at the standby.
    public var trackedBlocks: [GuestRAMBlock] { blocks.filter(\.tracked) }

    public init(
        process: ProcessIdentity, qemu: QEMUVersion, executable: String, arguments: [String], workingDirectory: String,
        guestName: String, machineType: String, accelerator: Accelerator, vcpus: [GuestCPU], memorySize: MemorySize,
        blocks: [GuestRAMBlock], disks: [GuestDisk], nics: [GuestNIC], devices: [GuestDevice],
        notes: [String]? = nil
    ) {
        self.process = process
        self.qemu = qemu
        self.executable = executable
        self.arguments = arguments
        self.workingDirectory = workingDirectory
        self.guestName = guestName
        self.machineType = machineType
        self.accelerator = accelerator
        self.vcpus = vcpus
        self.memorySize = memorySize
        self.blocks = blocks
        self.disks = disks
        self.nics = nics
        self.devices = devices
        self.notes = notes
    }
}

public enum Accelerator: String, Sendable, Codable {
    case tcg, kvm
}

public struct GuestCPU: Hashable, Sendable, Codable {
    public var index: Int
    /// The vCPU's thread in the QEMU process. With TCG and a single thread all vCPUs share one.
    public var thread: Int32

    public init(
        index: Int, thread: Int32
    ) {
        self.index = index
        self.thread = thread
    }
}

public struct MemorySize: Hashable, Sendable, Codable {
    public var base: UInt64
    public var plugged: UInt64

    public init(base: UInt64, plugged: UInt64) {
        self.base = base
        self.plugged = plugged
    }
}

/// A RAM block of a running QEMU.
public struct GuestRAMBlock: Hashable, Sendable, Codable {
    /// As in `info ramblock` and in the migration stream.
    public var name: String
    /// Used length in bytes.
    public var length: UInt64
    /// Length up to which QEMU may grow it, in bytes.
    public var maximum: UInt64
    /// Where it begins in the QEMU process; nil for constants that need no copying.
    public var hostAddress: UInt64?
    /// The address of the block's region within its container, which QEMU checks for blocks in shared files.
    public var regionAddress: UInt64
    /// True when its contents can differ from what the standby's QEMU loads by itself.
    public var tracked: Bool
    /// The memory backend (`-object memory-backend-*`, or the board's own) it belongs to: can lie in a shared file.
    public var backend: String?

    public init(
        name: String, length: UInt64, maximum: UInt64, hostAddress: UInt64?, regionAddress: UInt64, tracked: Bool,
        backend: String?
    ) {
        self.name = name
        self.length = length
        self.maximum = maximum
        self.hostAddress = hostAddress
        self.regionAddress = regionAddress
        self.tracked = tracked
        self.backend = backend
    }
}

extension GuestRAMBlock {
    /// The name of the file that holds a block without a memory backend at a standby, by its place in the offer.
    public static func fileName(ofBlock index: Int) -> String { "block-\(index)" }

    /// The name of the file that holds the block of a memory backend at a standby.
    public static func fileName(ofBackend backend: String) -> String {
        String(backend.map { $0.isLetter || $0.isNumber || ".-_".contains($0) ? $0 : "_" }) + ".memory"
    }
}

/// A drive of the guest, with or without a medium.
public struct GuestDisk: Hashable, Sendable, Codable {
    /// What configuration and messages call it: the `-drive` id (given or made up by QEMU), else the node name.
    public var name: String
    /// The block backend's name; empty for drives made by `-blockdev`.
    public var device: String
    /// QEMU's path or id of the guest device; nil when no device uses it.
    public var qdev: String?
    /// The top node, what a mirror job works on; nil without a medium.
    public var node: String?
    /// The format driver, for example `raw` or `qcow2`, below any filters such as `throttle`.
    public var format: String
    /// As QEMU names it, relative to its working directory; empty without a medium.
    public var file: String
    public var isBlockDevice: Bool
    /// Bytes as the guest sees it.
    public var virtualSize: UInt64
    public var readOnly: Bool
    public var removable: Bool
    /// QEMU's driver below the format, for example `file`, `host_device` or `rbd`; nil without a medium.
    public var storage: String?
    /// The named nodes from the top node down to the storage; nil without a medium.
    public var nodes: [String]?

    /// What it may be called in a configuration: the drive's id, its nodes' names, the guest device's id, and the target
    /// (`vda`) that libvirt makes such an id from.
    public var keys: [String] {
        var keys = [name, device, node ?? ""] + (nodes ?? [])
        let words = (qdev ?? "").split(separator: "/").map(String.init)
        // Paths of devices without an id name nothing: /machine/peripheral-anon/device[3].
        if let qdev, words.count <= 1 { keys.append(qdev) }
        if words.count >= 3, words[1] == "peripheral" { keys.append(words[2]) }
        keys += keys.compactMap(LibvirtNames.target)
        return keys.filter { !$0.isEmpty }
    }

    /// Of its image, for a hypervisor with that working directory.
    public func path(from directory: String) -> String { file.hasPrefix("/") ? file : "\(directory)/\(file)" }

    /// True when its contents must be mirrored: it has a medium that the guest can write.
    public var isReplicated: Bool { node != nil && !readOnly }

    public init(
        name: String, device: String, qdev: String?, node: String?, format: String, file: String, isBlockDevice: Bool,
        virtualSize: UInt64, readOnly: Bool, removable: Bool, storage: String? = nil, nodes: [String]? = nil
    ) {
        self.name = name
        self.device = device
        self.qdev = qdev
        self.node = node
        self.format = format
        self.file = file
        self.isBlockDevice = isBlockDevice
        self.virtualSize = virtualSize
        self.readOnly = readOnly
        self.removable = removable
        self.storage = storage
        self.nodes = nodes
    }
}

/// A network card of the guest.
public struct GuestNIC: Hashable, Sendable, Codable {
    /// QEMU's name of the card: the device id, else made up like `virtio-net-pci.0`.
    public var name: String
    public var model: String
    /// Lower case, with colons.
    public var mac: String
    /// The netdev that carries its frames; nil when it has no peer.
    public var netdev: String?
    /// `tap`, `user`, `socket`, …; empty without a netdev.
    public var backend: String
    /// The tap's interface, also of one that QEMU was given as a descriptor.
    public var interface: String?
    /// Where its output is held; nil for `netdev`.
    public var holding: NICHolding?

    public init(
        name: String, model: String, mac: String, netdev: String?, backend: String, interface: String?,
        holding: NICHolding? = nil
    ) {
        self.name = name
        self.model = model
        self.mac = mac
        self.netdev = netdev
        self.backend = backend
        self.interface = interface
        self.holding = holding
    }
}

/// Where a NIC's output can be held.
public enum NICHolding: String, Hashable, Sendable, Codable {
    /// In the hypervisor, before it reaches the host's network.
    case netdev
    /// Behind the hypervisor, at the tap: also what the kernel serves by itself.
    case tap
}

public struct GuestDevice: Hashable, Sendable, Codable {
    /// QOM path, for example `/machine/peripheral/net0`.
    public var path: String
    public var type: String

    public init(path: String, type: String) {
        self.path = path
        self.type = type
    }
}

/// Who is at the other end of a unix socket when it was connected (`SO_PEERCRED`).
public struct ProcessIdentity: Hashable, Sendable, Codable {
    public var pid: Int32
    public var uid: UInt32
    public var gid: UInt32

    public init(pid: Int32, uid: UInt32, gid: UInt32) {
        self.pid = pid
        self.uid = uid
        self.gid = gid
    }
}

public struct QEMUVersion: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    public var major: Int
    public var minor: Int
    public var micro: Int
    /// The distribution's words, for example `Debian 1:7.2+dfsg-7+deb12u18`; may be empty.
    public var package: String

    public init(major: Int, minor: Int, micro: Int, package: String) {
        self.major = major
        self.minor = minor
        self.micro = micro
        self.package = package
    }

    public var description: String { "\(major).\(minor).\(micro)" }
    public static func < (a: QEMUVersion, b: QEMUVersion) -> Bool {
        (a.major, a.minor, a.micro) < (b.major, b.minor, b.micro)
    }
}
