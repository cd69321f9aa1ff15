import Hypervisor

/// The rules by which a standby's command line is made from the primary's, one method per group of options.
struct Derivation {
    let guest: GuestDescription
    let options: StandbyOptions
    /// The primary's options with their values taken apart where that is needed.
    let source: [CommandOption]
    var result: [CommandOption] = []
    var notes: [String] = []
    var required: [StandbyCommand.RequiredFile] = []
    var memoryFiles: [StandbyCommand.MemoryFile] = []
    /// Chardevs that only monitors use.
    var monitorChardevs: Set<String> = []
    var serials = 0
    /// Where each named `-blockdev` node is written.
    var places: [String: NodePlace] = [:]
    /// By the number of a `-blockdev` option: the disk that it carries, and where within it that begins.
    var carriers: [Int: (prefix: String, disk: GuestDisk)] = [:]
    /// Names of disks with a format node in a `-blockdev`.
    var formatted: Set<String> = []
    /// `-blockdev` nodes that only carry backing files.
    var backingNodes: Set<String> = []
    /// Keys of `options.files` and `options.taps` that some option was rewritten by.
    var used: Set<String> = []
    /// Of the NICs whose netdev has a name of QEMU's own: those that a line was given an id for.
    var namedNICs = 0
    /// What stands in the way of a command line, one sentence each.
    var problems: [String] = []

    init(guest: GuestDescription, options: StandbyOptions) {
        self.guest = guest
        self.options = options
        source = CommandOption.parse(guest.arguments.dropFirst())
    }

    mutating func run() throws(StandbyCommandError) -> StandbyCommand {
        for option in source where option.name == "-mon" {
            if let name = OptionValue(option.value ?? "", impliedKey: "chardev")["chardev"] {
                monitorChardevs.insert(name)
            }
        }
        planMemory()
        planDisks()
        for (index, option) in source.enumerated() {
            collect { (work) throws(StandbyCommandError) in try work.translate(option, at: index) }
        }
        finishMachine()
        finishConsole()
        result.append(contentsOf: options.display.map(CommandOption.init(line:)))
        if let sandbox = options.sandbox, !source.contains(where: { $0.name == "-sandbox" }) {
            result.append(CommandOption("-sandbox", sandbox))
        }
        result.append(CommandOption("-monitor", "none"))
        let monitor = OptionValue.escape(options.monitorPath)
        result.append(CommandOption("-qmp", "unix:\(monitor),server=on,wait=off"))
        result.append(CommandOption("-incoming", "defer"))
        collect { (work) throws(StandbyCommandError) in try work.applyOverrides() }
        checkDevices()
        checkDisks()
        checkKeys()
        guard problems.isEmpty else { throw StandbyCommandError(problems) }
        return StandbyCommand(
            program: options.program ?? guest.executable, options: result, workingDirectory: "/",
            monitorPath: options.monitorPath, memoryFiles: memoryFiles, requiredFiles: required, notes: notes)
    }

    private mutating func collect(_ step: (inout Derivation) throws(StandbyCommandError) -> Void) {
        do throws(StandbyCommandError) {
            try step(&self)
        } catch {
            problems += error.problems
        }
    }

    /// Options that belong to the running process, its monitors and its displays.
    private static let dropped: Set<String> = [
        "-daemonize", "-pidfile", "-S", "-s", "-gdb", "-snapshot", "-loadvm", "-incoming", "-qmp", "-qmp-pretty",
        "-monitor", "-mon", "-display", "-vnc", "-spice", "-sdl", "-curses", "-full-screen", "-alt-grab", "-ctrl-grab",
        "-no-quit", "-no-frame", "-mem-path", "-mem-prealloc", "-D", "-trace", "-add-fd", "-preconfig", "-chroot",
        "-writeconfig",
    ]

    private mutating func translate(_ option: CommandOption, at index: Int) throws(StandbyCommandError) {
        guard !Self.dropped.contains(option.name) else { return }
        switch option.name {
        case "-machine", "-M": machine(option)
        case "-accel", "-enable-kvm":
            if options.accelerator == nil { result.append(option) }
        case "-object": object(option)
        case "-nographic", "-serial", "-parallel", "-virtioconsole", "-debugcon", "-chardev": console(option)
        case "-audiodev", "-audio": audio(option)
        case "-drive", "-blockdev", "-hda", "-hdb", "-hdc", "-hdd", "-cdrom", "-fda", "-fdb", "-pflash", "-sd",
            "-mtdblock", "":
            try disk(option, at: index)
        case "-netdev", "-nic", "-net": try network(option)
        case "-device": device(option)
        case "-kernel", "-initrd", "-dtb", "-bios": file(option)
        case "-fw_cfg", "-acpitable", "-smbios": fileWithin(option)
        case "-option-rom": fileWithin(option, key: "romfile")
        default: result.append(option)
        }
    }

    // MARK: Files

    /// Where a file of the primary is here: mapped, else the same path, made absolute.
    mutating func localPath(_ path: String) -> String {
        let absolute = path.hasPrefix("/") ? path : "\(guest.workingDirectory)/\(path)"
        for key in [path, absolute] {
            guard let mapped = options.files[key] else { continue }
            used.insert(key)
            return mapped
        }
        return absolute
    }

    /// An entry that means nothing is a typing mistake, and what it should have said would be missed at a failover only.
    private mutating func checkKeys() {
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

    /// Notes that `path` must be here. Names without a slash are looked up by QEMU in its data directories.
    mutating func require(_ path: String, _ purpose: String) {
        required.append(StandbyCommand.RequiredFile(path: path, purpose: purpose))
    }

    private mutating func file(_ option: CommandOption) {
        let given = option.value ?? ""
        // QEMU finds firmware such as "bios-256k.bin" by itself.
        if option.name == "-bios", !given.contains("/"), options.files[given] == nil {
            result.append(option)
            return
        }
        // Several initrd modules are separated by commas; they stay as they are.
        if option.name == "-initrd", given.contains(",") {
            result.append(option)
            return
        }
        let path = localPath(given)
        require(path, option.name)
        result.append(CommandOption(option.name, path))
    }

    private mutating func fileWithin(_ option: CommandOption, key: String = "file") {
        var value = OptionValue(option.value ?? "", impliedKey: key == "file" ? "name" : key)
        if let path = value[key], path.contains("/") || options.files[path] != nil {
            let local = localPath(path)
            value.set(key, .string(local))
            require(local, option.name)
        }
        result.append(CommandOption(option.name, value.text))
    }

    // MARK: Devices

    private mutating func device(_ option: CommandOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        if let id = value["id"], !guest.devices.contains(where: { $0.path == "/machine/peripheral/\(id)" }) {
            notes.append("device \(id) is left out: it was unplugged from the running VM")
            return
        }
        for key in ["file", "romfile"] {
            guard let path = value[key], path.contains("/") else { continue }
            let local = localPath(path)
            value.set(key, .string(local))
            require(local, "-device \(value["driver"] ?? "")")
        }
        result.append(CommandOption("-device", value.text))
    }

    /// Devices that were plugged in while the VM ran are not on its command line.
    private mutating func checkDevices() {
        var ids: Set<String> = []
        for option in result where option.name == "-device" {
            if let id = OptionValue(option.value ?? "", impliedKey: "driver")["id"] { ids.insert(id) }
        }
        for option in result where option.name == "-nic" {
            if let id = OptionValue(option.value ?? "", impliedKey: "type")["id"] { ids.insert(id) }
        }
        let prefix = "/machine/peripheral/"
        for device in guest.devices where device.path.hasPrefix(prefix) {
            let id = String(device.path.dropFirst(prefix.count))
            guard !ids.contains(id) else { continue }
            problems.append(
                "device \(id) (\(device.type)) was plugged into the running VM; add its option line to the VM's"
                    + " standby overrides, for example “-device \(device.type),id=\(id)”")
        }
    }

    private mutating func audio(_ option: CommandOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        value.set("driver", "none")
        value.remove("out", "in", "server", "path")
        result.append(CommandOption(option.name, value.text))
    }

    // MARK: Overrides

    private mutating func applyOverrides() throws(StandbyCommandError) {
        for line in options.overrides.remove {
            guard result.contains(where: { Self.matches($0, line) }) else {
                throw StandbyCommandError(option: line, problem: "an override removes it, and there is no such option")
            }
            result.removeAll { Self.matches($0, line) }
        }
        for change in options.overrides.replace {
            guard let index = result.firstIndex(where: { Self.matches($0, change.match) }) else {
                throw StandbyCommandError(
                    option: change.match, problem: "an override replaces it, and there is no such option")
            }
            result[index] = CommandOption(line: change.with)
        }
        result.append(contentsOf: options.overrides.add.map(CommandOption.init(line:)))
    }

    /// True when `line` is the option, or its beginning up to a space, comma or equals sign.
    private static func matches(_ option: CommandOption, _ line: String) -> Bool {
        let text = option.description
        guard text.hasPrefix(line) else { return false }
        guard let next = text.dropFirst(line.count).first else { return true }
        return next == " " || next == "," || next == "=" || line.hasSuffix(" ") || line.hasSuffix(",")
    }
}
