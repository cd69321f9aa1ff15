import Hypervisor

/// A standby's command line as it is being written: what it is made from, and what there is of it.
struct CommandDraft {
    let guest: GuestDescription
    let options: StandbyOptions
    /// The primary's options.
    let source: [CommandOption]
    /// The standby's options so far.
    var lines: [CommandOption] = []
    var notes: [String] = []
    private(set) var required: [StandbyCommand.RequiredFile] = []
    /// What stands in the way of a command line, one sentence each.
    var problems: [String] = []
    /// Keys of `options.files` and `options.taps` that some option was rewritten by.
    private var used: Set<String> = []

    init(of guest: GuestDescription, _ options: StandbyOptions) {
        self.guest = guest
        self.options = options
        source = CommandOption.parse(guest.arguments.dropFirst())
    }

    /// Where a file of the primary is here: mapped, else the same path, made absolute.
    mutating func localPath(_ path: String) -> String {
        let (local, key) = options.file(path, of: guest)
        if let key { used.insert(key) }
        return local
    }

    /// The tap that the configuration names by one of these keys.
    mutating func tap(_ keys: [String?]) -> String? {
        for key in keys.compactMap(\.self) where !key.isEmpty {
            guard let mapped = options.taps[key] else { continue }
            used.insert(key)
            return mapped
        }
        return nil
    }

    /// Notes that `path` must be here. Names without a slash are looked up by QEMU in its data directories.
    mutating func require(_ path: String, _ purpose: String) {
        required.append(StandbyCommand.RequiredFile(path: path, purpose: purpose))
    }

    /// An entry that means nothing is a typing mistake, and what it should have said would be missed at a failover only.
    mutating func checkKeys() {
        for key in options.disks.keys.sorted() where !guest.disks.contains(where: { $0.keys.contains(key) }) {
            let known = guest.disks.filter { $0.node != nil }.map { Array($0.keys.prefix(3)).joined(separator: " or ") }
            problems.append(
                "“\(key)” in the VM's standby disks is no disk of it, which has \(known.joined(separator: ", "))")
        }
        for key in options.taps.keys.sorted() where !used.contains(key) {
            problems.append("“\(key)” in the VM's standby taps is no netdev, NIC or tap of it")
        }
        for key in options.files.keys.sorted() where !used.contains(key) {
            problems.append("“\(key)” in the VM's standby files is no file of its command line")
        }
    }
}
