/// The table of settings as `docs/CONFIGURATION.md` has it.
enum SettingsTable {
    static var text: String {
        let head = ["| key | its value | without it | |", "|---|---|---|---|"]
        return (head + Settings.file.flatMap { rows($0, in: "") }).joined(separator: "\n") + "\n"
    }

    private static func rows(_ entry: SettingEntry, in place: String) -> [String] {
        let path = place + entry.key
        let standard = entry.entries.isEmpty ? entry.standard ?? "required" : ""
        let row = "| `\(path)` | \(entry.expected) | \(standard) | \(entry.sentence) |"
        let inner = entry.name.map { "\(path).\($0)." } ?? "\(path)."
        return [row.replacing("|  |", with: "| |").replacing("|  |", with: "| |")]
            + entry.entries.flatMap { rows($0, in: inner) }
    }
}

extension Configuration {
    /// A file with every key, to begin with: what `romulusd --print-sample` prints.
    public static var sampleFile: String { SampleFile.text }

    /// All keys as a table in Markdown: what `romulusd --print-settings` prints.
    public static var settingsTable: String { SettingsTable.text }
}
