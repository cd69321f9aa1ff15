/// The rules by which a standby's command line is made from the primary's, one method per group of options.
struct Derivation {
    let guest: GuestDescription
    let options: StandbyOptions
    /// The primary's options with their values taken apart where that is needed.
    let source: [QEMUOption]
    var result: [QEMUOption] = []
    var notes: [String] = []
    var required: [StandbyCommand.RequiredFile] = []
    var memoryFiles: [StandbyCommand.MemoryFile] = []
    /// Chardevs that only monitors use.
    var monitorChardevs: Set<String> = []
    var serials = 0
    /// Which disk a `-blockdev` node carries.
    var diskOfNode: [String: GuestDisk] = [:]
    /// `-blockdev` nodes that only carry backing files.
    var backingNodes: Set<String> = []

    init(guest: GuestDescription, options: StandbyOptions) {
        self.guest = guest
        self.options = options
        source = QEMUOption.parse(guest.arguments.dropFirst())
    }

    mutating func run() throws(StandbyCommandError) -> StandbyCommand {
        for option in source where option.name == "-mon" {
            if let name = OptionValue(option.value ?? "", impliedKey: "chardev")["chardev"] {
                monitorChardevs.insert(name)
            }
        }
        planMemory()
        planDisks()
        for option in source { try translate(option) }
        finishMachine()
        finishConsole()
        result.append(contentsOf: options.display.map(QEMUOption.init(line:)))
        if let sandbox = options.sandbox, !source.contains(where: { $0.name == "-sandbox" }) {
            result.append(QEMUOption("-sandbox", sandbox))
        }
        result.append(QEMUOption("-monitor", "none"))
        let monitor = OptionValue.escape(options.monitorPath)
        result.append(QEMUOption("-qmp", "unix:\(monitor),server=on,wait=off"))
        result.append(QEMUOption("-incoming", "defer"))
        try applyOverrides()
        try checkDevices()
        return StandbyCommand(
            program: options.program ?? guest.executable, options: result, workingDirectory: "/",
            monitorPath: options.monitorPath, memoryFiles: memoryFiles, requiredFiles: required, notes: notes)
    }

    /// Options that belong to the running process, its monitors and its displays.
    private static let dropped: Set<String> = [
        "-daemonize", "-pidfile", "-S", "-s", "-gdb", "-snapshot", "-loadvm", "-incoming", "-qmp", "-qmp-pretty",
        "-monitor", "-mon", "-display", "-vnc", "-spice", "-sdl", "-curses", "-full-screen", "-alt-grab", "-ctrl-grab",
        "-no-quit", "-no-frame", "-mem-path", "-mem-prealloc", "-D", "-trace", "-add-fd", "-preconfig", "-chroot",
        "-writeconfig",
    ]

    private mutating func translate(_ option: QEMUOption) throws(StandbyCommandError) {
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
            try disk(option)
        case "-netdev", "-nic", "-net": try network(option)
        case "-device": device(option)
        case "-kernel", "-initrd", "-dtb", "-bios": file(option)
        case "-fw_cfg", "-acpitable", "-smbios": fileWithin(option)
        case "-option-rom": fileWithin(option, key: "romfile")
        case "-readconfig":
            throw StandbyCommandError(
                option: option.description,
                problem: "options in a file cannot be rewritten; start QEMU with them on its command line")
        default: result.append(option)
        }
    }

    // MARK: Files

    /// Where a file of the primary is here: mapped, else the same path, made absolute.
    func localPath(_ path: String) -> String {
        if let mapped = options.files[path] { return mapped }
        let absolute = path.hasPrefix("/") ? path : "\(guest.workingDirectory)/\(path)"
        return options.files[absolute] ?? absolute
    }

    /// Notes that `path` must be here. Names without a slash are looked up by QEMU in its data directories.
    mutating func require(_ path: String, _ purpose: String) {
        required.append(StandbyCommand.RequiredFile(path: path, purpose: purpose))
    }

    private mutating func file(_ option: QEMUOption) {
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
        result.append(QEMUOption(option.name, path))
    }

    private mutating func fileWithin(_ option: QEMUOption, key: String = "file") {
        var value = OptionValue(option.value ?? "", impliedKey: key == "file" ? "name" : key)
        if let path = value[key], path.contains("/") || options.files[path] != nil {
            let local = localPath(path)
            value.set(key, .string(local))
            require(local, option.name)
        }
        result.append(QEMUOption(option.name, value.text))
    }

    // MARK: Devices

    private mutating func device(_ option: QEMUOption) {
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
        result.append(QEMUOption("-device", value.text))
    }

    /// Devices that were plugged in while the VM ran are not on its command line.
    private func checkDevices() throws(StandbyCommandError) {
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
            throw StandbyCommandError(
                option: "",
                problem:
                    "device \(id) (\(device.type)) was plugged into the running VM; add its option line to the VM's"
                    + " standby overrides, for example “-device \(device.type),id=\(id)”")
        }
    }

    private mutating func audio(_ option: QEMUOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        value.set("driver", "none")
        value.remove("out", "in", "server", "path")
        result.append(QEMUOption(option.name, value.text))
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
            result[index] = QEMUOption(line: change.with)
        }
        result.append(contentsOf: options.overrides.add.map(QEMUOption.init(line:)))
    }

    /// True when `line` is the option, or its beginning up to a space, comma or equals sign.
    private static func matches(_ option: QEMUOption, _ line: String) -> Bool {
        let text = option.description
        guard text.hasPrefix(line) else { return false }
        guard let next = text.dropFirst(line.count).first else { return true }
        return next == " " || next == "," || next == "=" || line.hasSuffix(" ") || line.hasSuffix(",")
    }
}
