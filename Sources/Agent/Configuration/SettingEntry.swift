/// A key, or a section of keys, as an operator reads of it.
struct SettingEntry: Sendable {
    /// How the sample file has it.
    enum Place: Sendable {
        /// As a comment that shows the default, or an example.
        case commented
        case set
        /// Not as a key: the text of its section speaks of it.
        case told
    }

    var key: String
    /// Without a capital letter, and without an end, where it is one sentence.
    var sentence: String
    /// What its value must be; of a section nothing.
    var expected = ""
    /// What holds without it; nil where it is required.
    var standard: String?
    /// What the sample file has for its value.
    var example = ""
    /// What else its value may be, in short.
    var bounds: String?
    var place: Place
    /// Of a section: what is in it.
    var entries: [SettingEntry] = []
    /// Of a section whose keys are names that the operator chooses: the one in the sample file.
    var name: String?
    /// Of a section of names with values: lines of the sample file.
    var lines: [String] = []

    static func section(
        _ key: String, _ sentence: String, place: Place = .commented, name: String? = nil, _ entries: [SettingEntry]
    ) -> SettingEntry {
        SettingEntry(
            key: key, sentence: sentence, standard: "none", place: place, entries: entries, name: name)
    }

    /// `expected` says what is behind each name.
    static func names(
        _ key: String, _ expected: String, _ sentence: String, place: Place = .commented, _ lines: [String]
    ) -> SettingEntry {
        SettingEntry(
            key: key, sentence: sentence, expected: "names, and for each \(expected)", standard: "none", place: place,
            lines: lines)
    }

    var isSection: Bool { !entries.isEmpty || !lines.isEmpty }
}
