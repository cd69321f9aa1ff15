import Yams

/// One mapping of the file while it is read: hands out checked values, notes what is wrong and where, and in the end
/// complains about the keys that nobody asked for.
///
/// Every function gives a value even when something is wrong, so that reading goes on and all problems come to light.
struct ConfigurationReader {
    /// Collects what is wrong; shared by the readers of one file.
    final class Problems {
        private(set) var list: [ConfigurationError.Problem] = []

        func add(_ line: Int?, _ message: String) {
            list.append(ConfigurationError.Problem(line: line, message: message))
        }
    }

    let problems: Problems
    /// Where this mapping stands, for messages: `tls`, `vms.web`; empty at the top.
    let place: String
    /// The line of the mapping's key (or of the file's first line).
    let line: Int?
    private let pairs: [(key: String, line: Int?, value: Node)]
    private var asked: [String] = []

    init(_ node: Node?, place: String, line: Int?, problems: Problems) {
        self.problems = problems
        self.place = place
        self.line = line
        var pairs: [(key: String, line: Int?, value: Node)] = []
        switch node {
        case .mapping(let mapping)?:
            for (key, value) in mapping {
                guard case .scalar(let scalar) = key else {
                    problems.add(key.mark?.line, "a plain key is expected\(Self.within(place))")
                    continue
                }
                pairs.append((scalar.string, scalar.mark?.line, value))
            }
        case .scalar(let scalar)? where scalar.isNothing:
            break
        case nil:
            break
        case let other?:
            problems.add(other.mark?.line ?? line, "“\(place)” must hold keys with values, such as “key: value”")
        }
        self.pairs = pairs
    }

    /// The keys in the order of the file, for mappings from names to something.
    var names: [(name: String, line: Int?)] { pairs.map { ($0.key, $0.line) } }

    func isPresent(_ key: String) -> Bool {
        pairs.contains { $0.key == key }
    }

    /// Where the key stands; nil when it does not.
    func line(of key: String) -> Int? { pairs.first { $0.key == key }?.line }

    func isMapping(_ key: String) -> Bool {
        pairs.contains { pair in
            if pair.key == key, case .mapping = pair.value { true } else { false }
        }
    }

    mutating func section(_ key: String) -> ConfigurationReader {
        let found = take(key)
        return ConfigurationReader(found?.value, place: path(key), line: found?.line ?? line, problems: problems)
    }

    /// A text that is not empty. `expected` says what it is, for the message.
    private mutating func text(_ key: String, _ expected: String) -> (text: String, line: Int?)? {
        guard let found = take(key) else { return nil }
        guard case .scalar(let scalar) = found.value, !scalar.isNothing, !scalar.string.isEmpty else {
            problems.add(found.line, "“\(path(key))” must be \(expected)")
            return nil
        }
        return (scalar.string, found.line)
    }

    /// What the setting says; nil where it is not given, or wrong.
    mutating func value<Value>(_ setting: Setting<Value>) -> Value? { value(setting.key, setting) }

    /// What the setting says where it stands under the name `key`.
    mutating func value<Value>(_ key: String, _ setting: Setting<Value>) -> Value? {
        switch setting.form {
        case .choice(let choices): return choice(key, choices)
        case .text(let parse):
            guard let found = text(key, setting.expected) else { return nil }
            if let value = parse(found.text) { return value }
            problems.add(found.line, "“\(path(key))” must be \(setting.expected), not “\(found.text)”")
            return nil
        }
    }

    /// What the setting says, or its default.
    mutating func read<Value>(_ setting: Setting<Value>) -> Value {
        if let value = value(setting) { return value }
        guard let standard = setting.standard else { preconditionFailure("“\(path(setting.key))” has no default") }
        return standard
    }

    mutating func required<Value>(_ setting: Setting<Value>) -> Value? {
        guard isPresent(setting.key) else {
            take(setting.key)
            problems.add(line, "“\(path(setting.key))” is missing: it must be \(setting.expected)")
            return nil
        }
        return value(setting)
    }

    /// One of a few words; nil where it is not given, or is none of them.
    private mutating func choice<Value>(_ key: String, _ choices: [(String, Value)]) -> Value? {
        guard let found = text(key, "one of \(Self.listed(choices.map(\.0)))") else { return nil }
        if let choice = choices.first(where: { $0.0 == found.text }) { return choice.1 }
        let hint = Suggestion.nearest(to: found.text, among: choices.map(\.0)).map { "; did you mean “\($0)”?" } ?? ""
        problems.add(
            found.line, "“\(path(key))” must be one of \(Self.listed(choices.map(\.0))), not “\(found.text)”\(hint)")
        return nil
    }

    /// A list of texts that `parse` understands; one text alone is taken as a list of one.
    mutating func list<Value>(_ key: String, _ expected: String, _ parse: (String) -> Value?) -> [Value] {
        guard let found = take(key) else { return [] }
        let nodes: [Node]
        switch found.value {
        case .sequence(let sequence): nodes = Array(sequence)
        case .scalar(let scalar) where scalar.isNothing: nodes = []
        default: nodes = [found.value]
        }
        return nodes.compactMap { node in
            if case .scalar(let scalar) = node, let value = parse(scalar.string) { return value }
            problems.add(node.mark?.line ?? found.line, "“\(path(key))” must be \(expected)")
            return nil
        }
    }

    /// A list of what the setting says; one text alone is taken as a list of one.
    mutating func list(_ setting: Setting<String>) -> [String] {
        list(setting.key, setting.expected) { text in
            if case .text(let parse) = setting.form { parse(text) } else { nil }
        }
    }

    /// A mapping from names to what the setting says, in the order of the file.
    mutating func texts(_ setting: Setting<String>) -> [(String, String)] {
        var reader = section(setting.key)
        return reader.names.compactMap { name, _ in reader.value(name, setting).map { (name, $0) } }
    }

    /// Notes the keys that were not asked for. Call it last.
    func finish() {
        let inside = place.isEmpty ? "" : " in “\(place)”"
        for pair in pairs where !asked.contains(pair.key) {
            let hint = Suggestion.nearest(to: pair.key, among: asked).map { "did you mean “\($0)”?" }
            problems.add(
                pair.line, "unknown key “\(pair.key)”\(inside): \(hint ?? "expected \(Self.listed(asked.sorted()))")")
        }
    }

    func path(_ key: String) -> String { place.isEmpty ? key : "\(place).\(key)" }

    static func absolutePath(_ text: String) -> String? {
        text.hasPrefix("/") && !text.utf8.contains(0) ? text : nil
    }

    static func listed(_ words: [String]) -> String {
        guard words.count > 1 else { return words.joined() }
        return words.dropLast().joined(separator: ", ") + " or " + words[words.count - 1]
    }

    private static func within(_ place: String) -> String { place.isEmpty ? "" : " in “\(place)”" }

    @discardableResult
    private mutating func take(_ key: String) -> (line: Int?, value: Node)? {
        asked.append(key)
        return pairs.first { $0.key == key }.map { ($0.line, $0.value) }
    }
}

extension Node.Scalar {
    /// `key:` with nothing behind it, or YAML's words for nothing.
    fileprivate var isNothing: Bool {
        style == .plain && ["", "~", "null", "Null", "NULL"].contains(string)
    }
}
