import Hypervisor

/// The rules for files that QEMU reads at its start and that nobody replicates.
enum FileRules {
    static func file(_ option: CommandOption, _ draft: inout CommandDraft) {
        let given = option.value ?? ""
        // QEMU finds firmware such as "bios-256k.bin" by itself.
        if option.name == "-bios", !given.contains("/"), draft.options.files[given] == nil {
            draft.lines.append(option)
            return
        }
        // Several initrd modules are separated by commas; they stay as they are.
        if option.name == "-initrd", given.contains(",") {
            draft.lines.append(option)
            return
        }
        let path = draft.localPath(given)
        draft.require(path, option.name)
        draft.lines.append(CommandOption(option.name, path))
    }

    static func fileWithin(_ option: CommandOption, key: String = "file", _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: key == "file" ? "name" : key)
        if let path = value[key], path.contains("/") || draft.options.files[path] != nil {
            let local = draft.localPath(path)
            value.set(key, .string(local))
            draft.require(local, option.name)
        }
        draft.lines.append(CommandOption(option.name, value.text))
    }
}
