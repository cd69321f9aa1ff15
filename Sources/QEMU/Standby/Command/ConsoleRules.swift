import Hypervisor

/// The rules for consoles: what is the primary's own (its terminal, files, sockets) becomes the standby's own.
struct ConsoleRules {
    /// Chardevs that only monitors use.
    private let monitorChardevs: Set<String>
    private var serials = 0

    init(_ source: [CommandOption]) {
        monitorChardevs = Set(
            source.filter { $0.name == "-mon" }.compactMap {
                OptionValue($0.value ?? "", impliedKey: "chardev")["chardev"]
            })
    }

    mutating func console(_ option: CommandOption, _ draft: inout CommandDraft) {
        let value = option.value ?? ""
        switch option.name {
        case "-nographic": draft.lines.append(CommandOption("-machine", "graphics=off"))
        case "-chardev": chardev(option, &draft)
        default:
            let kind = String(option.name.dropFirst())
            if option.name == "-serial" { serials += 1 }
            draft.lines.append(
                CommandOption(option.name, legacyConsole(value, file: "\(kind)\(serials)", draft.options)))
        }
    }

    /// With `-nographic` and no `-serial`, QEMU puts the first serial port on its standard output.
    func finishConsole(_ draft: inout CommandDraft) {
        let consoles = ["-serial", "-virtioconsole"]
        let implied =
            draft.source.contains { $0.name == "-nographic" } && !draft.source.contains { consoles.contains($0.name) }
        if implied, !draft.source.contains(where: { $0.name == "-nodefaults" }) {
            draft.lines.append(CommandOption("-serial", logFile("serial1", draft.options)))
        }
    }

    private func logFile(_ name: String, _ options: StandbyOptions) -> String {
        "file:" + OptionValue.escape("\(options.runDirectory)/\(name).log")
    }

    /// `-serial` and its like: what is the primary's own (its terminal, files, sockets) becomes the standby's own.
    private func legacyConsole(_ text: String, file: String, _ options: StandbyOptions) -> String {
        let target = text.hasPrefix("mon:") ? String(text.dropFirst(4)) : text
        let kind = target.prefix { $0 != ":" && $0 != "," }
        switch kind {
        case "none", "null", "pty", "vc", "msmouse", "braille", "wctablet", "chardev": return target
        case "unix" where target.contains("server") && !target.contains("server=off"):
            let path = OptionValue.escape("\(options.runDirectory)/\(file).sock")
            return "unix:\(path),server=on,wait=off"
        default: return logFile(file, options)
        }
    }

    private func chardev(_ option: CommandOption, _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: "backend")
        let id = value["id"] ?? ""
        guard !monitorChardevs.contains(id) || isUsedByDevice(id, draft) else { return }
        let backend = value["backend"] ?? ""
        let isServer = value["server"] == "on"
        switch backend {
        case "null", "pty", "vc", "ringbuf", "memory", "msmouse", "braille", "wctablet", "testdev":
            value.remove("logfile", "logappend")
        case "socket" where isServer && (value.has("path") || value.has("fd")):
            value = OptionValue(pairs: [
                ("backend", "socket"), ("id", id), ("path", "\(draft.options.runDirectory)/\(id).sock"),
                ("server", "on"),
                ("wait", "off"),
            ])
        case "file", "stdio":
            value = OptionValue(pairs: [
                ("backend", "file"), ("id", id), ("path", "\(draft.options.runDirectory)/\(id).log"),
            ])
        default:
            draft.notes.append(
                "chardev \(id) (\(backend)) leads nowhere at the standby: it belongs to the primary's host")
            value = OptionValue(pairs: [("backend", "null"), ("id", id)])
        }
        draft.lines.append(CommandOption("-chardev", value.text))
    }

    /// A multiplexed chardev serves a monitor and a serial port at once.
    private func isUsedByDevice(_ id: String, _ draft: CommandDraft) -> Bool {
        draft.source.contains { option in
            guard let value = option.value else { return false }
            switch option.name {
            case "-serial", "-parallel", "-virtioconsole": return value == "chardev:\(id)"
            case "-device": return OptionValue(value, impliedKey: "driver")["chardev"] == id
            default: return false
            }
        }
    }
}
