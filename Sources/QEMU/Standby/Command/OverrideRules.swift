import Hypervisor

/// The operator's last word on the derived options.
enum OverrideRules {
    static func apply(_ draft: inout CommandDraft) throws(StandbyCommandError) {
        for line in draft.options.overrides.remove {
            guard draft.lines.contains(where: { Self.matches($0, line) }) else {
                throw StandbyCommandError(option: line, problem: "an override removes it, and there is no such option")
            }
            draft.lines.removeAll { Self.matches($0, line) }
        }
        for change in draft.options.overrides.replace {
            guard let index = draft.lines.firstIndex(where: { Self.matches($0, change.match) }) else {
                throw StandbyCommandError(
                    option: change.match, problem: "an override replaces it, and there is no such option")
            }
            draft.lines[index] = CommandOption(line: change.with)
        }
        draft.lines.append(contentsOf: draft.options.overrides.add.map(CommandOption.init(line:)))
    }

    /// True when `line` is the option, or its beginning up to a space, comma or equals sign.
    private static func matches(_ option: CommandOption, _ line: String) -> Bool {
        let text = option.description
        guard text.hasPrefix(line) else { return false }
        guard let next = text.dropFirst(line.count).first else { return true }
        return next == " " || next == "," || next == "=" || line.hasSuffix(" ") || line.hasSuffix(",")
    }
}
