import Foundation

/// One place in the sources that does not keep to a rule.
struct Finding: Equatable, CustomStringConvertible {
    var path: String
    var line: Int
    var message: String
    var description: String { "\(path):\(line): \(message)" }
}

/// The rules, each a function from one file's text to its findings, so that a planted text proves that it can fail.
enum Checks {
    /// Modules that come with the toolchain and may be imported anywhere.
    static let toolchain: Set<String> = ["Swift", "Glibc", "Synchronization", "Dispatch"]
    /// Foundation is allowed from the drivers up; these stay free of it.
    static let withoutFoundation: Set<String> = ["LinuxSystem", "Model", "Wire", "Codec", "Protocol"]

    /// The modules that a file imports, with their lines.
    static func imports(_ text: String) -> [(module: String, line: Int)] {
        let attributes: Set<Substring> = ["public", "package", "internal", "fileprivate", "private"]
        let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "typealias", "func", "let", "var"]
        var imports: [(String, Int)] = []
        for (index, line) in SourceText.withoutComments(text).components(separatedBy: "\n").enumerated() {
            var words = line.split(whereSeparator: \.isWhitespace)[...]
            while let first = words.first, first.hasPrefix("@") || attributes.contains(first) { words.removeFirst() }
            guard words.first == "import" else { continue }
            words.removeFirst()
            if let kind = words.first, kinds.contains(kind) { words.removeFirst() }
            if let module = words.first?.split(separator: ".").first { imports.append((String(module), index + 1)) }
        }
        return imports
    }

    /// Imports point downwards, to targets that stand earlier in the manifest, and only to what the manifest gives the
    /// target.
    static func imports(of text: String, path: String, target name: String, in manifest: Manifest) -> [Finding] {
        guard let target = manifest.targets[name] else {
            return [Finding(path: path, line: 1, message: "no target “\(name)” stands in Package.swift")]
        }
        var findings: [Finding] = []
        for (module, line) in imports(text) where module != name {
            func find(_ message: String) { findings.append(Finding(path: path, line: line, message: message)) }
            if let other = manifest.targets[module], other.rank > target.rank {
                find("\(name) imports \(module), which stands above it; imports point downwards only")
            } else if module == "Foundation" || module.hasPrefix("Foundation") {
                if withoutFoundation.contains(name) {
                    find("\(name) imports \(module); the core does without, use Glibc and the standard library")
                }
            } else if !toolchain.contains(module), !target.dependencies.contains(module) {
                find("\(name) imports \(module), which its target in Package.swift does not depend on")
            }
        }
        return findings
    }

    /// Modules of other systems that packages look for (`canImport`) and use where they find them. All modules of a build lie
    /// in one folder, so a target of such a name is found too, or not, as the order of building has it.
    static let probed: Set<String> = [
        "Accelerate", "Combine", "CommonCrypto", "CoreFoundation", "CoreGraphics", "CryptoKit", "Darwin", "Network",
        "ObjectiveC", "Security", "System", "os",
    ]

    /// The targets that have such names.
    static func probedNames(in manifest: Manifest) -> [String] {
        manifest.targets.keys.filter(probed.contains).sorted()
    }

    /// What no source may contain, and what to do instead.
    static let banned: [(text: String, instead: String)] = [
        ("try!", "handle the error, or make the function throw"),
        ("as!", "use as? and say what happens otherwise"),
        ("fatalError(", "throw for what may happen; for a defect of ours, list the file in `mayTrap`"),
        ("@testable", "test what is public"),
        ("-Ounchecked", "it removes the checks that keep parsers safe"),
    ]
    /// Where `fatalError` says which defect of ours it met, with how often. Unlike `precondition` it keeps its message in
    /// release builds; nothing that a peer, a guest or an operator does may lead there.
    static let mayTrap: [String: Int] = [
        "Sources/LinuxSystem/NamedThread.swift": 1,
        "Sources/Transport/Link.swift": 2,
        "Sources/Transport/LinkDialer.swift": 1,
        "Sources/Transport/SendQueue.swift": 1,
    ]
    /// Words that mean that something is unfinished, in code and in comments.
    static let unfinished = ["TODO", "FIXME", "XXX", "HACK"]

    static func bannedText(
        in text: String, path: String, mayTrap: [String: Int] = Checks.mayTrap
    ) -> [Finding] {
        var findings: [Finding] = []
        var trapsLeft = mayTrap[path] ?? 0
        let code = SourceText.withoutComments(text).components(separatedBy: "\n")
        for (index, line) in code.enumerated() {
            for (banned, instead) in banned where contains(line, banned) {
                if banned == "fatalError(", trapsLeft > 0 {
                    trapsLeft -= 1
                    continue
                }
                findings.append(
                    Finding(path: path, line: index + 1, message: "“\(banned)” is not used here: \(instead)"))
            }
        }
        if trapsLeft > 0 {
            findings.append(
                Finding(path: path, line: 1, message: "`mayTrap` allows \(trapsLeft) more fatalError than there are"))
        }
        for (index, line) in text.components(separatedBy: "\n").enumerated() {
            for word in unfinished where contains(line, word) {
                findings.append(
                    Finding(path: path, line: index + 1, message: "“\(word)”: finish it, or leave it out"))
            }
        }
        return findings
    }

    /// Whether `line` holds `text` as a word of its own: neither preceded nor, for names, followed by a letter.
    private static func contains(_ line: String, _ text: String) -> Bool {
        var rest = line[...]
        while let found = rest.range(of: text) {
            let before = rest[..<found.lowerBound].last ?? line[..<found.lowerBound].last
            let after = line[found.upperBound...].first
            let starts = before.map { !$0.isLetter && !$0.isNumber && $0 != "_" } ?? true
            let lastIsLetter = text.last?.isLetter ?? false
            let ends = !lastIsLetter || (after.map { !$0.isLetter && !$0.isNumber && $0 != "_" } ?? true)
            if starts && ends { return true }
            rest = line[found.upperBound...]
        }
        return false
    }

    /// Whoever takes sharing between threads into their own hands says why that is safe, beside it.
    static func unexplained(in text: String, path: String) -> [Finding] {
        let lines = text.components(separatedBy: "\n")
        let code = SourceText.withoutComments(text).components(separatedBy: "\n")
        var findings: [Finding] = []
        for (index, line) in code.enumerated() {
            guard line.contains("@unchecked Sendable") || line.contains("nonisolated(unsafe)") else { continue }
            let around = lines[max(0, index - 6)...min(lines.count - 1, index + 2)]
            if !around.contains(where: { $0.contains("SAFETY") }) {
                findings.append(
                    Finding(
                        path: path, line: index + 1,
                        message: "a “SAFETY:” comment beside it must say why this is safe to share"))
            }
        }
        return findings
    }
}
