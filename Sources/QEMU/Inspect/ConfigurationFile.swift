/// A file of `-readconfig`: groups of settings, which are options of the command line in another form (util/qemu-config.c).
enum ConfigurationFile {
    /// Groups whose option has another name.
    private static let optionNames = ["memory": "m", "smp-opts": "smp", "boot-opts": "boot"]

    /// The file's options as words of a command line, or the number of the first line that is none of its form.
    static func arguments(_ text: String) -> Result<[String], BadLine> {
        var groups: [(option: String, pairs: [String])] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = trimmed(line)
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasPrefix("[") {
                guard let group = group(line) else { return .failure(BadLine(number: index + 1)) }
                groups.append(group)
            } else {
                guard !groups.isEmpty, let pair = pair(line) else { return .failure(BadLine(number: index + 1)) }
                groups[groups.count - 1].pairs.append(pair)
            }
        }
        return .success(groups.flatMap { ["-\($0.option)", $0.pairs.joined(separator: ",")] })
    }

    struct BadLine: Error, Hashable {
        var number: Int
    }

    /// `[device "id"]`, or `[machine]`.
    private static func group(_ line: Substring) -> (option: String, pairs: [String])? {
        guard let close = line.lastIndex(of: "]") else { return nil }
        let words = line[line.index(after: line.startIndex)..<close]
        let name = String(words.prefix { $0 != " " })
        guard !name.isEmpty else { return nil }
        let option = optionNames[name] ?? name
        let rest = trimmed(words.dropFirst(name.count))
        if rest.isEmpty { return (option, []) }
        guard rest.count >= 2, rest.hasPrefix("\""), rest.hasSuffix("\"") else { return nil }
        return (option, ["id=" + OptionValue.escape(String(rest.dropFirst().dropLast()))])
    }

    /// `key = "value"`.
    private static func pair(_ line: Substring) -> String? {
        guard let equals = line.firstIndex(of: "=") else { return nil }
        let key = trimmed(line[..<equals])
        let value = trimmed(line[line.index(after: equals)...])
        guard !key.isEmpty, value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") else { return nil }
        return "\(key)=" + OptionValue.escape(String(value.dropFirst().dropLast()))
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0 == " " || $0 == "\t" || $0 == "\r" }
        return front.prefix(
            upTo: front.lastIndex { !" \t\r".contains($0) }.map(front.index(after:)) ?? front.startIndex)
    }
}

extension Inspection {
    /// Puts the options of `-readconfig` files where the files are named. They are read as the process sees them.
    mutating func expandConfigurationFiles() {
        var expanded: [String] = []
        var words = arguments[...]
        while let word = words.popFirst() {
            guard ["-readconfig", "--readconfig"].contains(word), let path = words.popFirst() else {
                expanded.append(word)
                continue
            }
            let absolute = path.hasPrefix("/") ? path : "\(facts.link("cwd") ?? "")/\(path)"
            guard let bytes = facts.read("root\(absolute)") else {
                refuse(
                    .process, path,
                    "\(path), which QEMU read its options from (-readconfig), cannot be read any more: put it back, or start"
                        + " QEMU with them on its command line")
                continue
            }
            switch ConfigurationFile.arguments(String(decoding: bytes, as: UTF8.self)) {
            case .success(let options): expanded += options
            case .failure(let line):
                refuse(
                    .process, path,
                    "line \(line.number) of \(path), which QEMU read its options from (-readconfig), is not understood: write"
                        + " it as [type \"id\"] or key = \"value\"")
            }
        }
        arguments = expanded
    }
}
