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
    mutating func text(_ key: String, _ expected: String) -> (text: String, line: Int?)? {
        guard let found = take(key) else { return nil }
        guard case .scalar(let scalar) = found.value, !scalar.isNothing, !scalar.string.isEmpty else {
            problems.add(found.line, "“\(path(key))” must be \(expected)")
            return nil
        }
        return (scalar.string, found.line)
    }

    /// A text that `parse` understands.
    mutating func value<Value>(_ key: String, _ expected: String, _ parse: (String) -> Value?) -> Value? {
        guard let found = text(key, expected) else { return nil }
        if let value = parse(found.text) { return value }
        problems.add(found.line, "“\(path(key))” must be \(expected), not “\(found.text)”")
        return nil
    }

    mutating func required<Value>(_ key: String, _ expected: String, _ parse: (String) -> Value?) -> Value? {
        if !isPresent(key) {
            take(key)
            problems.add(line, "“\(path(key))” is missing: it must be \(expected)")
            return nil
        }
        return value(key, expected, parse)
    }

    mutating func integer(_ key: String, _ range: ClosedRange<Int>, default standard: Int) -> Int {
        let expected = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return value(key, expected) { text in Int(text).flatMap { range.contains($0) ? $0 : nil } } ?? standard
    }

    mutating func flag(_ key: String, default standard: Bool) -> Bool {
        value(key, "true or false") { text in
            switch text {
            case "true", "yes", "on": true
            case "false", "no", "off": false
            default: nil
            }
        } ?? standard
    }

    /// One of a few words.
    mutating func choice<Value>(_ key: String, _ choices: [(String, Value)], default standard: Value) -> Value {
        guard let found = text(key, "one of \(Self.listed(choices.map(\.0)))") else { return standard }
        if let choice = choices.first(where: { $0.0 == found.text }) { return choice.1 }
        let hint = Suggestion.nearest(to: found.text, among: choices.map(\.0)).map { "; did you mean “\($0)”?" } ?? ""
        problems.add(
            found.line, "“\(path(key))” must be one of \(Self.listed(choices.map(\.0))), not “\(found.text)”\(hint)")
        return standard
    }

    mutating func path(_ key: String, default standard: String) -> String {
        value(key, "an absolute path", Self.absolutePath) ?? standard
    }

    /// A list of texts that `parse` understands; one text alone is taken as a list of one.
    mutating func list(_ key: String, _ expected: String, _ parse: (String) -> String?) -> [String] {
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

    /// A mapping from names to texts that `parse` understands, in the order of the file.
    mutating func texts(
        _ key: String, _ expected: String, _ parse: (String) -> String?
    ) -> [(String, String)] {
        var reader = section(key)
        return reader.names.compactMap { name, _ in reader.value(name, expected, parse).map { (name, $0) } }
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
