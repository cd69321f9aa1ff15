/// One key of the file: what it may hold, what holds without it, and what is said of it. The reader takes its checks and
/// defaults from here, and so do the sample file and the table in the pages.
struct Setting<Value: Sendable>: Sendable {
    enum Form: Sendable {
        /// A text that is understood.
        case text(_ parse: @Sendable (String) -> Value?)
        /// One of a few words.
        case choice([(String, Value)])
    }

    let form: Form
    /// What holds without it; nil where that depends on something else, or where there is no such value.
    let standard: Value?
    let entry: SettingEntry

    var key: String { entry.key }
    /// What it must be, for messages.
    var expected: String { entry.expected }

    /// - Parameters:
    ///   - standard: what holds without it, and how the file says that.
    ///   - absent: how it is told where there is no `standard`; nil where the key is required.
    ///   - example: what the sample file has; the default where this is nil.
    ///   - place: how it stands in the sample file.
    init(
        _ key: String, _ expected: String, _ form: Form, standard: (value: Value, text: String)?, _ sentence: String,
        absent: String?, example: String?, bounds: String? = nil, place: SettingEntry.Place
    ) {
        self.form = form
        self.standard = standard?.value
        entry = SettingEntry(
            key: key, sentence: sentence, expected: expected, standard: absent ?? standard?.text,
            example: example ?? standard?.text ?? "", bounds: bounds, place: place)
    }

    /// A text that `parse` understands; `expected` says what that is.
    static func value(
        _ key: String, _ expected: String, _ parse: @escaping @Sendable (String) -> Value?,
        default standard: (value: Value, text: String)? = nil, _ sentence: String, absent: String? = nil,
        example: String? = nil, place: SettingEntry.Place = .commented
    ) -> Setting {
        Setting(
            key, expected, .text(parse), standard: standard, sentence, absent: absent, example: example, place: place)
    }

    /// One of a few words; `standard` is one of them.
    static func choice(
        _ key: String, _ choices: [(String, Value)], default standard: String? = nil, _ sentence: String,
        absent: String? = nil, example: String? = nil, place: SettingEntry.Place = .commented
    ) -> Setting {
        let shown = standard ?? example
        let others = choices.map(\.0).filter { $0 != shown }
        return Setting(
            key, "one of \(ConfigurationReader.listed(choices.map(\.0)))", .choice(choices),
            standard: choices.first { $0.0 == standard }.map { ($0.1, $0.0) }, sentence, absent: absent,
            example: example, bounds: others.isEmpty ? nil : "or \(others.joined(separator: ", "))", place: place)
    }
}

extension Setting where Value == Int {
    static func integer(
        _ key: String, _ range: ClosedRange<Int>, default standard: Int? = nil, _ sentence: String,
        absent: String? = nil, example: String? = nil, place: SettingEntry.Place = .commented
    ) -> Setting {
        Setting(
            key, "a whole number from \(range.lowerBound) to \(range.upperBound)",
            .text { text in Int(text).flatMap { range.contains($0) ? $0 : nil } },
            standard: standard.map { ($0, "\($0)") }, sentence, absent: absent, example: example,
            bounds: "\(range.lowerBound) to \(range.upperBound)", place: place)
    }
}

extension Setting where Value == Double {
    static func number(
        _ key: String, _ range: ClosedRange<Double>, _ sentence: String, absent: String, example: String? = nil,
        place: SettingEntry.Place = .commented
    ) -> Setting {
        Setting(
            key, "a number from \(range.lowerBound) to \(range.upperBound)",
            .text { text in Double(text).flatMap { range.contains($0) ? $0 : nil } }, standard: nil, sentence,
            absent: absent, example: example,
            bounds: "\(range.lowerBound.formatted()) to \(range.upperBound.formatted())", place: place)
    }
}

extension Double {
    /// Without a fraction where there is none.
    fileprivate func formatted() -> String { self == rounded() ? "\(Int(self))" : "\(self)" }
}

extension Setting where Value == Bool {
    static func flag(_ key: String, default standard: Bool, _ sentence: String) -> Setting {
        Setting(
            key, "true or false",
            .text { text in
                switch text {
                case "true", "yes", "on": true
                case "false", "no", "off": false
                default: nil
                }
            }, standard: (standard, "\(standard)"), sentence, absent: nil, example: nil, place: .commented)
    }
}

extension Setting where Value == String {
    static func path(
        _ key: String, as expected: String = "an absolute path", default standard: String? = nil, _ sentence: String,
        absent: String? = nil, example: String? = nil, place: SettingEntry.Place = .commented
    ) -> Setting {
        value(
            key, expected, ConfigurationReader.absolutePath, default: standard.map { ($0, $0) }, sentence,
            absent: absent, example: example, place: place)
    }

    /// A text of any kind that is not empty.
    static func text(
        _ key: String, _ expected: String, _ sentence: String, absent: String? = nil, example: String? = nil,
        place: SettingEntry.Place = .commented
    ) -> Setting {
        value(key, expected, { $0 }, sentence, absent: absent, example: example, place: place)
    }
}
