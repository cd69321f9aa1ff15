/// What is different at the standby, as far as the VM's configuration says it.
public struct StandbyOptions: Hashable, Sendable, Codable {
    /// Where QEMU's sockets, consoles and logs of this VM go. It must exist.
    public var runDirectory: String
    /// Where the RAM files go, normally on tmpfs; `runDirectory` when nil.
    public var memoryDirectory: String?
    /// The program to start instead of the primary's.
    public var program: String?
    /// By one of the disk's names (`GuestDisk.keys`): its image here. Others keep their path and format.
    public var disks: [String: StandbyDisk] = [:]
    /// Paths of other files (kernel, CD images, firmware) that are elsewhere here.
    public var files: [String: String] = [:]
    /// By netdev id, the NIC's id, or the primary's interface name: the tap's interface here.
    public var taps: [String: String] = [:]
    /// Option lines for the display, for example `-vnc :1`; the primary's own are dropped.
    public var display = ["-display none"]
    /// For example `kvm`; nil keeps what the primary has.
    public var accelerator: String?
    /// The value of `-sandbox`, added when the primary has none.
    public var sandbox: String?
    public var overrides = StandbyOverrides()

    public init(runDirectory: String) { self.runDirectory = runDirectory }

    public var monitorPath: String { "\(runDirectory)/qmp.sock" }

    /// Where a file of the primary is here, and the entry of `files` that says so; without one it is at the same path, made absolute.
    package func file(_ path: String, of guest: GuestDescription) -> (path: String, key: String?) {
        let absolute = path.hasPrefix("/") ? path : "\(guest.workingDirectory)/\(path)"
        for key in [path, absolute] {
            if let mapped = files[key] { return (mapped, key) }
        }
        return (absolute, nil)
    }

    /// The disk's image on this host: as mapped in the configuration, else where `file` says. QEMU and the agent must agree.
    package func image(of disk: GuestDisk, in guest: GuestDescription) -> StandbyDisk {
        for key in disk.keys {
            if let mapped = disks[key] { return mapped }
        }
        return StandbyDisk(
            path: file(disk.file, of: guest).path, format: disk.format, isBlockDevice: disk.isBlockDevice)
    }
}

public struct StandbyDisk: Hashable, Sendable, Codable {
    public var path: String
    /// `raw` or `qcow2`.
    public var format: String
    public var isBlockDevice: Bool

    public init(path: String, format: String, isBlockDevice: Bool = false) {
        self.path = path
        self.format = format
        self.isBlockDevice = isBlockDevice
    }
}

/// The operator's last word on the derived command line. Entries are option lines as `romulus standby-command` prints
/// them: the option, a space, its value.
public struct StandbyOverrides: Hashable, Sendable, Codable {
    public struct Replacement: Hashable, Sendable, Codable {
        /// An option line, or its beginning up to a comma or space: `-device usb-tablet`.
        public var match: String
        public var with: String

        public init(match: String, with: String) {
            self.match = match
            self.with = with
        }
    }
    /// Option lines, or their beginnings.
    public var remove: [String] = []
    public var replace: [Replacement] = []
    public var add: [String] = []

    public init() {}
}
