/// Figures of how the sources are built, counted from their text: which folders of a target lean on each other, how
/// long files and functions are, what one type's files sum up to, who reaches for QEMU.
///
/// Types are those that are declared at the top of a file, by name; a name that a target declares twice counts for
/// neither place.
struct House {
    struct File {
        /// The path below `Sources`, such as `Memory/Capture/Slab.swift`.
        let path: String
        let lines: Int
        /// Names of types that are declared or extended outside all braces.
        let declared: [String]
        let extended: [String]
        /// Each function, initialiser and accessor with a body, with its lines.
        let functions: [(name: String, lines: Int)]
        let imports: [String]
        /// All words of the code.
        fileprivate let words: Set<Substring>

        var target: String { String(path.prefix { $0 != "/" }) }
        /// The folder within the target; empty for files beside the folders.
        var folder: String {
            let parts = path.split(separator: "/")
            return parts.count > 2 ? String(parts[1]) : ""
        }

        init(path: String, text: String) {
            self.path = path
            lines = text.split(separator: "\n", omittingEmptySubsequences: false).count - (text.hasSuffix("\n") ? 1 : 0)
            let code = SourceText.code(text)
            words = Set(code.utf8.split { !House.isPartOfWord($0) }.map { Substring($0) })
            imports = Checks.imports(text).map(\.module)
            (declared, extended, functions) = Outline.read(code)
        }
    }

    let files: [File]

    static func isPartOfWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 0x80...: true
        default: false
        }
    }

    /// The file with the most lines.
    var longestFile: File? { files.max { $0.lines < $1.lines } }

    /// Functions of more than `lines` lines, as `Target/File.swift name`.
    func functions(over lines: Int) -> [String] {
        files.flatMap { file in file.functions.filter { $0.lines > lines }.map { "\(file.path) \($0.name)" } }.sorted()
    }

    /// Lines of all files that are named for a type: `Type.swift` and `Type+Aspect.swift` of one target.
    func typeSums() -> [String: Int] {
        var sums: [String: Int] = [:]
        for file in files {
            let name = file.path.split(separator: "/").last?.dropLast(".swift".count).prefix { $0 != "+" } ?? ""
            guard file.declared.contains(String(name)) || file.extended.contains(String(name)) else { continue }
            sums["\(file.target).\(name)", default: 0] += file.lines
        }
        return sums
    }

    /// Pairs of folders of one target of which each names types of the other, as `Target: A <-> B`; `.` are the files
    /// beside the folders.
    func twoWayPairs() -> [String] {
        Dictionary(grouping: files, by: \.target).flatMap { target, files -> [String] in
            var home: [Substring: Set<String>] = [:]
            for file in files { for name in file.declared { home[name[...], default: []].insert(file.folder) } }
            var arrows: Set<[String]> = []
            for file in files {
                for word in file.words {
                    guard let folders = home[word], folders.count == 1, let other = folders.first,
                        other != file.folder
                    else { continue }
                    arrows.insert([file.folder, other])
                }
            }
            func shown(_ folder: String) -> String { folder.isEmpty ? "." : folder }
            return arrows.filter { $0[0] < $0[1] && arrows.contains([$0[1], $0[0]]) }
                .map { "\(target): \(shown($0[0])) <-> \(shown($0[1]))" }
        }.sorted()
    }

    /// How many files of each other target import `module`.
    func importers(of module: String) -> [String: Int] {
        files.filter { $0.target != module && $0.imports.contains(module) }.reduce(into: [:]) {
            $0[$1.target, default: 0] += 1
        }
    }
}

/// Declarations and function bodies of code without comments and literals.
private enum Outline {
    static func read(_ code: String) -> (
        declared: [String], extended: [String], functions: [(name: String, lines: Int)]
    ) {
        var declared: [String] = []
        var extended: [String] = []
        var functions: [(name: String, lines: Int)] = []
        /// Functions whose body is open: the depth outside of it, and the line of its first word.
        var open: [(name: String, depth: Int, line: Int)] = []
        /// A declaration whose body has not begun, with the depth and the parentheses around it.
        var pending: (name: String, line: Int, depth: Int, parentheses: Int)?
        var depth = 0
        var parentheses = 0
        for (number, line) in code.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split { !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "@" && $0 != "." }
            if depth == 0 {
                for (keyword, name) in zip(words, words.dropFirst()) {
                    if ["class", "struct", "enum", "protocol", "actor", "typealias"].contains(keyword),
                        name.first?.isUppercase == true
                    {
                        declared.append(String(name))
                        break
                    }
                    if keyword == "extension" {
                        extended.append(String(name.split(separator: ".").last ?? name))
                        break
                    }
                }
            }
            let begun = function(words)
            for index in line.indices {
                if let begun, index == begun.keyword.startIndex, pending.map({ parentheses == $0.parentheses }) ?? true
                {
                    pending = (begun.name, number, depth, parentheses)
                }
                switch line[index] {
                case "(": parentheses += 1
                case ")": parentheses -= 1
                case "{":
                    if let found = pending, parentheses == found.parentheses {
                        open.append((found.name, depth, found.line))
                        pending = nil
                    }
                    depth += 1
                case "}":
                    depth -= 1
                    // A requirement has no body, and its protocol ends.
                    if let found = pending, depth < found.depth { pending = nil }
                    if let last = open.last, last.depth == depth {
                        functions.append((last.name, number - last.line + 1))
                        open.removeLast()
                    }
                default: break
                }
            }
        }
        return (declared, extended, functions)
    }

    /// The word that begins a declaration with a body, and what it declares.
    private static func function(_ words: [Substring]) -> (keyword: Substring, name: String)? {
        if let index = words.firstIndex(of: "func"), index + 1 < words.count {
            return (words[index], String(words[index + 1]))
        }
        let modifiers: Set<Substring> = [
            "public", "package", "internal", "fileprivate", "private", "convenience", "required", "override", "static",
            "mutating", "nonisolated", "consuming", "borrowing",
        ]
        guard let first = words.first(where: { !modifiers.contains($0) && !$0.hasPrefix("@") }),
            first == "init" || first == "deinit"
        else { return nil }
        return (first, String(first))
    }
}
