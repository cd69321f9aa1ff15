import Foundation

/// What a page says of the sources, held against them.
struct DocumentChecks {
    let vocabulary: Vocabulary
    /// Options of other programs, which pages name in a span of their own.
    static let foreignOptions: Set<String> = [
        "--client-cert-auth",  // etcd
        "--option",  // a form of QEMU's options
    ]

    func findings(_ document: Document) -> [Finding] {
        commands(document) + loneOptions(document) + keys(document) + metrics(document) + words(document)
            + files(document) + makeTargets(document)
    }

    // MARK: commands

    /// Each `romulus VERB --option`, in a span or a block.
    func commands(_ document: Document) -> [Finding] {
        let spans = document.spans.map { ($0.text, $0.line) }
        let blocks = Self.whole(document.lines.filter(\.isCode)).flatMap { text, line in
            // What a shell takes as one command.
            text.split { "|;&$()<>'\"".contains($0) }.map { (String($0), line) }
        }
        return (spans + blocks).flatMap { text, line in
            command(text).map { Finding(path: document.path, line: line, message: $0) }
        }
    }

    /// Lines without remarks, those that go on in the next one (`\` at the end, or `[` at its beginning) joined with
    /// it.
    private static func whole(_ lines: [Document.Line]) -> [(text: String, line: Int)] {
        var whole: [(text: String, line: Int)] = []
        var goesOn = false
        for line in lines {
            var text = line.text
            if let remark = text.range(of: " #") { text = String(text[..<remark.lowerBound]) }
            let isPart = goesOn || text.drop { $0 == " " }.hasPrefix("[")
            goesOn = text.hasSuffix("\\")
            if goesOn { text.removeLast() }
            if isPart, !whole.isEmpty { whole[whole.count - 1].text += text } else { whole.append((text, line.number)) }
        }
        return whole
    }

    private func command(_ text: String) -> [String] {
        var words = text.split { $0.isWhitespace || "[]…".contains($0) }.map(String.init)[...]
        while let first = words.first, ["sudo", "$"].contains(first) { words.removeFirst() }
        guard let name = words.popFirst(), let program = vocabulary.programs[name] else { return [] }
        func begins(_ verb: [String]) -> Bool { program.verbs.keys.contains { $0.starts(with: verb) } }
        // Options before the verb, and their values.
        let leading = words.prefix { $0.hasPrefix("-") || $0.first?.isUppercase == true }
        words = words.dropFirst(leading.count)
        if leading.last?.hasPrefix("-") == true, let value = words.first, !begins([value]) { words.removeFirst() }
        var verb: [String] = []
        while let word = words.first, begins(verb + [word]) {
            verb.append(words.removeFirst())
        }
        if let word = words.first, verb.isEmpty, program.verbs[[]] == nil, word.first?.isLetter == true, word != "help",
            vocabulary.programs[word] == nil
        {
            return ["“\(name) \(word)”: \(name) has no such verb"]
        }
        let known = program.common.union(program.verbs[verb] ?? [])
        return (leading + words).compactMap { word -> String? in
            guard word.firstMatch(of: #/^--?[a-z]/#) != nil else { return nil }
            let option = String(word.prefix { !"=,:.".contains($0) })
            return known.contains(option) || option == "--generate-completion-script"
                ? nil : "“\(([name] + verb).joined(separator: " "))” has no option \(option)"
        }
    }

    /// A span that is an option alone, such as `--wait`, or one with its value.
    func loneOptions(_ document: Document) -> [Finding] {
        let known = vocabulary.programs.values.reduce(Self.foreignOptions) { $0.union($1.allOptions) }
        return document.spans.compactMap { span in
            guard let match = span.text.firstMatch(of: #/^(--[a-z][a-z-]*)/#), !known.contains(String(match.1)) else {
                return nil
            }
            return Finding(path: document.path, line: span.line, message: "no program has the option \(match.1)")
        }
    }

    // MARK: keys

    /// Words with underscores that belong to the kernel.
    static let foreignWords: Set<String> = ["tcp_rmem", "sched_rt_runtime_us"]

    /// A span that is one word with underscores, such as `silence_ms`: a key, a state, a field of the API. The sources have it,
    /// or they have it as `silenceMs`.
    func words(_ document: Document) -> [Finding] {
        document.spans.compactMap { span in
            guard span.text.wholeMatch(of: #/[a-z0-9]+(?:_[a-z0-9]+)+/#) != nil, !Self.foreignWords.contains(span.text),
                !vocabulary.words.contains(span.text)
            else { return nil }
            let parts = span.text.split(separator: "_")
            let camel = parts[0] + parts.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
            return vocabulary.words.contains(String(camel))
                ? nil
                : Finding(
                    path: document.path, line: span.line, message: "nothing in the sources is called \(span.text)")
        }
    }

    /// Sections at the top of the configuration.
    private static let sections: Set<String> = [
        "tls", "peers", "arbiter", "witness", "watchdog", "api", "metrics", "defaults", "detection", "journal", "qemu",
        "vms",
    ]

    /// Keys of the configuration: `defaults.epoch_ms`, `silence_ms: 500`, and blocks of YAML.
    func keys(_ document: Document) -> [Finding] {
        let spans = document.spans.flatMap { span -> [Finding] in
            if let match = span.text.wholeMatch(of: #/([a-z]+)((?:\.[A-Za-z_]+)+)(?:: .*)?/#),
                Self.sections.contains(String(match.1))
            {
                let path = [match.1] + match.2.split(separator: ".")
                // A file's name is no key.
                if ["sqlite", "jsonl", "log"].contains(path[1]) { return [] }
                return path.indices.compactMap {
                    key(path[$0], in: $0 > 0 ? path[$0 - 1] : nil, document, line: span.line)
                }
            }
            guard let match = span.text.wholeMatch(of: #/([a-z_]+): .+/#) else { return [] }
            return [key(match.1, in: nil, document, line: span.line)].compactMap { $0 }
        }
        return spans + document.blocks.flatMap { yaml($0, document) }
    }

    private func key(_ key: Substring, in section: Substring?, _ document: Document, line: Int) -> Finding? {
        if vocabulary.keys.contains(String(key))
            || section.map({ vocabulary.sectionsOfNames.contains(String($0)) }) == true
        {
            return nil
        }
        return Finding(path: document.path, line: line, message: "the configuration has no key “\(key)”")
    }

    /// A block is the configuration's when its first line is a section of it.
    private func yaml(_ block: [Document.Line], _ document: Document) -> [Finding] {
        let entries = block.compactMap { line -> (indent: Int, key: Substring, line: Int)? in
            guard let match = line.text.firstMatch(of: #/^( *)([A-Za-z_]+):(?: |$)/#) else { return nil }
            return (match.1.count, match.2, line.number)
        }
        guard let first = entries.first, Self.sections.contains(String(first.key)), first.line == block.first?.number
        else { return [] }
        var sections: [(indent: Int, key: Substring)] = []
        return entries.compactMap { entry in
            sections.removeAll { $0.indent >= entry.indent }
            defer { sections.append((entry.indent, entry.key)) }
            return key(entry.key, in: sections.last?.key, document, line: entry.line)
        }
    }

    // MARK: names

    /// Names of metrics, with what a histogram adds to them, and `romulus_target_*` for several.
    func metrics(_ document: Document) -> [Finding] {
        document.lines.flatMap { line in
            line.text.matches(of: #/\bromulus_[a-z0-9_]*(?:[*…])?/#).compactMap { match -> Finding? in
                let name = String(match.0)
                let plain = ["_bucket", "_sum", "_count"].first { name.hasSuffix($0) }.map {
                    String(name.dropLast($0.count))
                }
                let isPrefix = name.hasSuffix("*") || name.hasSuffix("…")
                let isKnown =
                    isPrefix
                    ? vocabulary.metrics.contains { $0.hasPrefix(name.dropLast()) }
                    : vocabulary.metrics.contains(name) || plain.map(vocabulary.metrics.contains) ?? false
                return isKnown
                    ? nil : Finding(path: document.path, line: line.number, message: "there is no metric \(name)")
            }
        }
    }

    /// Paths into the repository, in prose and in blocks.
    func files(_ document: Document) -> [Finding] {
        document.lines.flatMap { line in
            line.text.matches(of: #/(?:^|[^\w\/.\-])((?:Sources|Tests|docs|deploy|\.ci)\/[\w+.\/*\-]*)/#).compactMap {
                match in
                var path = String(match.1)
                while path.hasSuffix(".") { path.removeLast() }
                return vocabulary.exists(path)
                    ? nil
                    : Finding(path: document.path, line: line.number, message: "there is no \(path) in the repository")
            }
        }
    }

    /// `make TARGET`, in a span or at the start of a line of a block.
    func makeTargets(_ document: Document) -> [Finding] {
        let texts =
            document.spans.map { ($0.text, $0.line) } + document.lines.filter(\.isCode).map { ($0.text, $0.number) }
        return texts.compactMap { text, line in
            guard let match = text.firstMatch(of: #/^\s*(?:sudo )?make ([a-z]+)/#),
                !vocabulary.makeTargets.contains(String(match.1))
            else { return nil }
            return Finding(path: document.path, line: line, message: "the Makefile has no target “\(match.1)”")
        }
    }

    /// Relative links and their anchors; `others` are all pages by path.
    func links(_ document: Document, others: [String: Document]) -> [Finding] {
        document.links.compactMap { link in
            if link.target.firstMatch(of: #/^[a-z]+:/#) != nil { return nil }
            let parts = link.target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
            let folder = document.path.split(separator: "/").dropLast()
            var path: [Substring] = parts[0].isEmpty ? document.path.split(separator: "/") : Array(folder)
            for part in parts[0].split(separator: "/") {
                if part == ".." { path = path.dropLast() } else if part != "." { path.append(part) }
            }
            let target = path.joined(separator: "/")
            func finding(_ message: String) -> Finding {
                Finding(path: document.path, line: link.line, message: message)
            }
            guard vocabulary.exists(target) else { return finding("the link \(link.target) leads nowhere") }
            guard parts.count == 2, let page = others[target], !page.anchors.contains(String(parts[1])) else {
                return nil
            }
            return finding("\(target) has no heading “#\(parts[1])”")
        }
    }

    // MARK: the other way round

    /// What the sources have and no page tells: verbs and options in the page of commands, metrics in theirs, keys in
    /// any text of `all`.
    func undocumented(commands: Document, metrics: Document, all: [String]) -> [String] {
        var findings: [String] = []
        if let program = vocabulary.programs["romulus"] {
            for (verb, options) in program.verbs.sorted(by: { $0.key.joined() < $1.key.joined() }) {
                let name = verb.joined(separator: " ")
                let section = commands.section { title in
                    title.components(separatedBy: ", ").contains { $0 == name || $0.hasPrefix(name + " ") }
                }.map(\.text).joined(separator: "\n")
                if section.isEmpty { findings.append("\(commands.path) has no heading for “romulus \(name)”") }
                for option in options.sorted()
                where !section.contains("`\(option)`") && !section.contains("`\(option) ") {
                    findings.append("\(commands.path) does not tell of “romulus \(name) \(option)”")
                }
            }
            let common = commands.section { $0 == "Options of every verb" }.map(\.text).joined(separator: "\n")
            for option in program.common.sorted()
            where !common.contains("`\(option)`") && !common.contains("`\(option) ") {
                findings.append("\(commands.path) does not tell of \(option), which every verb has")
            }
        }
        let told = Set(metrics.spans.map(\.text))
        for metric in vocabulary.metrics.subtracting(told).sorted() {
            findings.append("\(metrics.path) does not tell of \(metric)")
        }
        for key in vocabulary.keys.sorted() {
            let isTold = all.contains { text in
                text.contains("\(key):") || text.contains(".\(key)`") || text.contains("`\(key)`")
                    || text.contains(" \(key),")
            }
            if !isTold { findings.append("no page and no example tells of the configuration's key “\(key)”") }
        }
        return findings
    }
}
