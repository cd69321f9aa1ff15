import Hypervisor

/// The rules for devices, which must be those of the running guest.
enum DeviceRules {
    static func device(_ option: CommandOption, _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        if let id = value["id"], !draft.guest.devices.contains(where: { $0.path == "/machine/peripheral/\(id)" }) {
            draft.notes.append("device \(id) is left out: it was unplugged from the running VM")
            return
        }
        for key in ["file", "romfile"] {
            guard let path = value[key], path.contains("/") else { continue }
            let local = draft.localPath(path)
            value.set(key, .string(local))
            draft.require(local, "-device \(value["driver"] ?? "")")
        }
        draft.lines.append(CommandOption("-device", value.text))
    }

    /// Devices that were plugged in while the VM ran are not on its command line.
    static func checkDevices(_ draft: inout CommandDraft) {
        var ids: Set<String> = []
        for option in draft.lines where option.name == "-device" {
            if let id = OptionValue(option.value ?? "", impliedKey: "driver")["id"] { ids.insert(id) }
        }
        for option in draft.lines where option.name == "-nic" {
            if let id = OptionValue(option.value ?? "", impliedKey: "type")["id"] { ids.insert(id) }
        }
        let prefix = "/machine/peripheral/"
        for device in draft.guest.devices where device.path.hasPrefix(prefix) {
            let id = String(device.path.dropFirst(prefix.count))
            guard !ids.contains(id) else { continue }
            draft.problems.append(
                "device \(id) (\(device.type)) was plugged into the running VM; add its option line to the VM's"
                    + " standby overrides, for example “-device \(device.type),id=\(id)”")
        }
    }

    static func audio(_ option: CommandOption, _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        value.set("driver", "none")
        value.remove("out", "in", "server", "path")
        draft.lines.append(CommandOption(option.name, value.text))
    }
}
