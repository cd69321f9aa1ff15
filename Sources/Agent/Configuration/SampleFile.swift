/// `deploy/romulusd.yaml`: every key of the table of settings with its default, or an example.
struct SampleFile {
    private static let head = """
        # The configuration of one host's agent, normally /etc/romulus/romulusd.yaml.
        # Check it with “romulusd --check-config”. Keys that are commented out show their default, or an example.

        """
    /// The most columns, and where what is said behind a value begins.
    private static let (width, column) = (120, 43)

    private var lines: [String] = []
    /// The entry before this one has nothing above it.
    private var isPlain = false

    static var text: String {
        var file = SampleFile()
        for entry in Settings.file where entry.place != .told { file.addAtTop(entry) }
        return head + "\n" + file.lines.joined(separator: "\n") + "\n"
    }

    private mutating func addAtTop(_ entry: SettingEntry) {
        let begun = lines.count
        add(entry, indent: 0, mark: nil)
        let isPlain = lines.count == begun + 1
        if begun > 0, !(isPlain && self.isPlain) { lines.insert("", at: begun) }
        self.isPlain = isPlain
    }

    /// `mark` is where the comment sign stands of a section that is commented out; nil where none is.
    private mutating func add(_ entry: SettingEntry, indent: Int, mark: Int?) {
        let around = mark
        let mark = mark ?? (entry.place == .commented ? indent : nil)
        guard entry.isSection else { return addValue(entry, indent, mark, within: around) }
        addAbove(entry.sentence, indent, around)
        addLine("\(entry.key):", indent, mark)
        for line in entry.lines { addLine(line, indent + 2, mark) }
        var inner = indent + 2
        if let name = entry.name {
            addLine("\(name):", inner, mark)
            inner += 2
        }
        for entry in entry.entries where entry.place != .told { add(entry, indent: inner, mark: mark) }
    }

    private mutating func addValue(_ entry: SettingEntry, _ indent: Int, _ mark: Int?, within around: Int?) {
        let note = [entry.sentence, Self.details(of: entry)].filter { !$0.isEmpty }.joined(separator: " ")
        let line = Self.prefix(indent, mark) + "\(entry.key): \(entry.example)"
        let behind = line.padding(to: Self.column - 2) + " # \(note)"
        guard behind.count > Self.width else { return lines.append(behind) }
        addAbove(note, indent, around)
        lines.append(line)
    }

    /// What the sentence leaves open, in parentheses.
    private static func details(of entry: SettingEntry) -> String {
        var standard: String?
        if entry.standard != entry.example { standard = entry.standard.map { "default: \($0)" } ?? "required" }
        let parts = [entry.bounds, standard].compactMap(\.self)
        return parts.isEmpty ? "" : "(\(parts.joined(separator: "; ")))"
    }

    private mutating func addAbove(_ sentence: String, _ indent: Int, _ mark: Int?) {
        guard let first = sentence.first else { return }
        let prefix = Self.prefix(indent, mark) + "# "
        var line = prefix
        for word in "\(first.uppercased())\(sentence.dropFirst()).".split(separator: " ") {
            if line.count + word.count + 1 > Self.width, line != prefix {
                lines.append(line)
                line = prefix
            }
            line += line == prefix ? word : " \(word)"
        }
        lines.append(line)
    }

    private mutating func addLine(_ text: String, _ indent: Int, _ mark: Int?) {
        lines.append(Self.prefix(indent, mark) + text)
    }

    private static func prefix(_ indent: Int, _ mark: Int?) -> String {
        guard let mark else { return String(repeating: " ", count: indent) }
        return String(repeating: " ", count: mark) + "# " + String(repeating: " ", count: indent - mark)
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
