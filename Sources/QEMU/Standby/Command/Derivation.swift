import Hypervisor

/// Makes a standby's command line from the primary's: hands each option to the rules for its kind, in the order in which it came.
struct Derivation {
    private var draft: CommandDraft
    private let memory: MemoryRules
    private let disks: DiskRules
    private var consoles: ConsoleRules
    private var network = NetworkRules()

    init(guest: GuestDescription, options: StandbyOptions) {
        draft = CommandDraft(of: guest, options)
        memory = MemoryRules(guest, options)
        disks = DiskRules(guest, draft.source)
        consoles = ConsoleRules(draft.source)
    }

    mutating func run() throws(StandbyCommandError) -> StandbyCommand {
        for (index, option) in draft.source.enumerated() {
            collect { (work) throws(StandbyCommandError) in try work.translate(option, at: index) }
        }
        memory.finishMachine(&draft)
        consoles.finishConsole(&draft)
        addOwnOptions()
        collect { (work) throws(StandbyCommandError) in try OverrideRules.apply(&work.draft) }
        DeviceRules.checkDevices(&draft)
        disks.checkDisks(&draft)
        draft.checkKeys()
        guard draft.problems.isEmpty else { throw StandbyCommandError(draft.problems) }
        return StandbyCommand(
            program: draft.options.program ?? draft.guest.executable, options: draft.lines, workingDirectory: "/",
            monitorPath: draft.options.monitorPath, memoryFiles: memory.files, requiredFiles: draft.required,
            notes: draft.notes)
    }

    /// What every standby has.
    private mutating func addOwnOptions() {
        let options = draft.options
        draft.lines += options.display.map(CommandOption.init(line:))
        if let sandbox = options.sandbox, !draft.source.contains(where: { $0.name == "-sandbox" }) {
            draft.lines.append(CommandOption("-sandbox", sandbox))
        }
        draft.lines.append(CommandOption("-monitor", "none"))
        let monitor = OptionValue.escape(options.monitorPath)
        draft.lines.append(CommandOption("-qmp", "unix:\(monitor),server=on,wait=off"))
        draft.lines.append(CommandOption("-incoming", "defer"))
    }

    private mutating func collect(_ step: (inout Derivation) throws(StandbyCommandError) -> Void) {
        do throws(StandbyCommandError) {
            try step(&self)
        } catch {
            draft.problems += error.problems
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
        case "-machine", "-M": memory.machine(option, &draft)
        case "-accel", "-enable-kvm":
            if draft.options.accelerator == nil { draft.lines.append(option) }
        case "-object": memory.object(option, &draft)
        case "-nographic", "-serial", "-parallel", "-virtioconsole", "-debugcon", "-chardev":
            consoles.console(option, &draft)
        case "-audiodev", "-audio": DeviceRules.audio(option, &draft)
        case "-drive", "-blockdev", "-hda", "-hdb", "-hdc", "-hdd", "-cdrom", "-fda", "-fdb", "-pflash", "-sd",
            "-mtdblock", "":
            try disks.disk(option, at: index, &draft)
        case "-netdev", "-nic", "-net": try network.network(option, &draft)
        case "-device": DeviceRules.device(option, &draft)
        case "-kernel", "-initrd", "-dtb", "-bios": FileRules.file(option, &draft)
        case "-fw_cfg", "-acpitable", "-smbios": FileRules.fileWithin(option, &draft)
        case "-option-rom": FileRules.fileWithin(option, key: "romfile", &draft)
        default: draft.lines.append(option)
        }
    }
}
