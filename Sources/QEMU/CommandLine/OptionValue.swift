/// The value of an option such as `-device` or `-object`: `key=value,…` with doubled commas, or a JSON object. Either
/// form is kept when it is changed.
struct OptionValue: Hashable {
    private struct Pair: Hashable {
        var key: String
        var value: String
        /// Written without `key=`: the first word, or a switch.
        var isBare: Bool
    }
    private enum Form: Hashable {
        case pairs([Pair])
        case json(JSONValue)
    }
    private var form: Form

    /// `impliedKey` is what a first word without `=` is the value of, for example `driver` in `-device e1000`.
    init(_ text: String, impliedKey: String) {
        if text.hasPrefix("{"), let value = try? JSONValue(parsing: text), value.object != nil {
            form = .json(value)
            return
        }
        var pairs: [Pair] = []
        for (index, word) in Self.split(text).enumerated() where !word.isEmpty || index == 0 {
            if let equals = word.firstIndex(of: "=") {
                pairs.append(
                    Pair(key: String(word[..<equals]), value: String(word[word.index(after: equals)...]), isBare: false)
                )
            } else if index == 0 {
                pairs.append(Pair(key: impliedKey, value: word, isBare: true))
            } else {
                pairs.append(Pair(key: word, value: "on", isBare: true))
            }
        }
        form = .pairs(pairs)
    }

    init(pairs: [(String, String)]) {
        form = .pairs(pairs.map { Pair(key: $0.0, value: $0.1, isBare: false) })
    }

    /// Splits at single commas; a doubled one is a comma of the word.
    static func split(_ text: String) -> [String] {
        var words: [String] = []
        var word = ""
        var rest = text[...]
        while let character = rest.popFirst() {
            if character != "," {
                word.append(character)
            } else if rest.first == "," {
                word.append(",")
                rest.removeFirst()
            } else {
                words.append(word)
                word = ""
            }
        }
        words.append(word)
        return words
    }

    static func escape(_ text: String) -> String {
        text.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
    }

    var text: String {
        switch form {
        case .json(let value): value.description
        case .pairs(let pairs):
            pairs.enumerated().map { index, pair in
                if !pair.isBare { return "\(pair.key)=\(Self.escape(pair.value))" }
                return index == 0 ? Self.escape(pair.value) : pair.key
            }.joined(separator: ",")
        }
    }

    /// The value of `key`, which may reach into nested objects with dots; booleans read as `on` and `off`. The last of
    /// several counts, as in QEMU.
    subscript(key: String) -> String? {
        switch form {
        case .pairs(let pairs): pairs.last { $0.key == key }?.value
        case .json(let value): Self.find(key, in: value).flatMap(Self.string)
        }
    }

    /// True when `key` has a value of any kind, objects included.
    func has(_ key: String) -> Bool {
        switch form {
        case .pairs(let pairs): pairs.contains { $0.key == key || $0.key.hasPrefix("\(key).") }
        case .json(let value): Self.find(key, in: value) != nil
        }
    }

    /// The keys right below `prefix` (which ends with a dot, or is empty), without what lies within them.
    func keys(below prefix: String) -> Set<String> {
        switch form {
        case .pairs(let pairs):
            Set(
                pairs.filter { $0.key.hasPrefix(prefix) }
                    .map { String($0.key.dropFirst(prefix.count).prefix { $0 != "." }) })
        case .json(let root):
            Set(
                (prefix.isEmpty ? root : Self.find(String(prefix.dropLast()), in: root))?.object.map(\.keys) ?? [:].keys
            )
        }
    }

    /// Sets `key`; in the key=value form booleans become `on` and `off`.
    mutating func set(_ key: String, _ value: JSONValue) {
        switch form {
        case .pairs(var pairs):
            let text = Self.string(value) ?? ""
            if let index = pairs.lastIndex(where: { $0.key == key }) {
                pairs[index].value = text
                if index > 0 { pairs[index].isBare = false }
            } else {
                pairs.append(Pair(key: key, value: text, isBare: false))
            }
            form = .pairs(pairs)
        case .json(let root):
            form = .json(Self.replace(key, in: root, with: value))
        }
    }

    mutating func remove(_ keys: String...) {
        for key in keys {
            switch form {
            case .pairs(var pairs):
                pairs.removeAll { $0.key == key || $0.key.hasPrefix("\(key).") }
                form = .pairs(pairs)
            case .json(let root):
                form = .json(Self.replace(key, in: root, with: nil))
            }
        }
    }

    private static func string(_ value: JSONValue) -> String? {
        switch value {
        case .string(let text): text
        case .bool(let on): on ? "on" : "off"
        case .integer(let number): String(number)
        case .unsigned(let number): String(number)
        case .number(let number): String(number)
        case .null, .array, .object: nil
        }
    }

    private static func find(_ key: String, in value: JSONValue) -> JSONValue? {
        if let direct = value[key] { return direct }
        guard let dot = key.firstIndex(of: "."), let inner = value[String(key[..<dot])] else { return nil }
        return find(String(key[key.index(after: dot)...]), in: inner)
    }

    private static func replace(_ key: String, in value: JSONValue, with new: JSONValue?) -> JSONValue {
        guard var members = value.object else { return value }
        if members[key] == nil, let dot = key.firstIndex(of: "."), let inner = members[String(key[..<dot])],
            inner.object != nil
        {
            members[String(key[..<dot])] = replace(String(key[key.index(after: dot)...]), in: inner, with: new)
        } else {
            members[key] = new
        }
        return .object(members)
    }
}
