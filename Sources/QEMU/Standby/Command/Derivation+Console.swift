import Hypervisor

extension Derivation {
    mutating func console(_ option: CommandOption) {
        let value = option.value ?? ""
        switch option.name {
        case "-nographic": result.append(CommandOption("-machine", "graphics=off"))
        case "-chardev": chardev(option)
        default:
            let kind = String(option.name.dropFirst())
            if option.name == "-serial" { serials += 1 }
            result.append(CommandOption(option.name, legacyConsole(value, file: "\(kind)\(serials)")))
        }
    }

    /// With `-nographic` and no `-serial`, QEMU puts the first serial port on its standard output.
    mutating func finishConsole() {
        let consoles = ["-serial", "-virtioconsole"]
        let implied = source.contains { $0.name == "-nographic" } && !source.contains { consoles.contains($0.name) }
        if implied, !source.contains(where: { $0.name == "-nodefaults" }) {
            result.append(CommandOption("-serial", logFile("serial1")))
        }
    }

    private func logFile(_ name: String) -> String {
        "file:" + OptionValue.escape("\(options.runDirectory)/\(name).log")
    }

    /// `-serial` and its like: what is the primary's own (its terminal, files, sockets) becomes the standby's own.
    private func legacyConsole(_ text: String, file: String) -> String {
        let target = text.hasPrefix("mon:") ? String(text.dropFirst(4)) : text
        let kind = target.prefix { $0 != ":" && $0 != "," }
        switch kind {
        case "none", "null", "pty", "vc", "msmouse", "braille", "wctablet", "chardev": return target
        case "unix" where target.contains("server") && !target.contains("server=off"):
            let path = OptionValue.escape("\(options.runDirectory)/\(file).sock")
            return "unix:\(path),server=on,wait=off"
        default: return logFile(file)
        }
    }

    private mutating func chardev(_ option: CommandOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "backend")
        let id = value["id"] ?? ""
        guard !monitorChardevs.contains(id) || isUsedByDevice(id) else { return }
        let backend = value["backend"] ?? ""
        let isServer = value["server"] == "on"
        switch backend {
        case "null", "pty", "vc", "ringbuf", "memory", "msmouse", "braille", "wctablet", "testdev":
            value.remove("logfile", "logappend")
        case "socket" where isServer && (value.has("path") || value.has("fd")):
            value = OptionValue(pairs: [
                ("backend", "socket"), ("id", id), ("path", "\(options.runDirectory)/\(id).sock"), ("server", "on"),
                ("wait", "off"),
            ])
        case "file", "stdio":
            value = OptionValue(pairs: [
                ("backend", "file"), ("id", id), ("path", "\(options.runDirectory)/\(id).log"),
            ])
        default:
            notes.append("chardev \(id) (\(backend)) leads nowhere at the standby: it belongs to the primary's host")
            value = OptionValue(pairs: [("backend", "null"), ("id", id)])
        }
        result.append(CommandOption("-chardev", value.text))
    }

    /// A multiplexed chardev serves a monitor and a serial port at once.
    private func isUsedByDevice(_ id: String) -> Bool {
        source.contains { option in
            guard let value = option.value else { return false }
            switch option.name {
            case "-serial", "-parallel", "-virtioconsole": return value == "chardev:\(id)"
            case "-device": return OptionValue(value, impliedKey: "driver")["chardev"] == id
            default: return false
            }
        }
    }
}
