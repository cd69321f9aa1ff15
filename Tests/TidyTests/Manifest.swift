import Foundation

/// What Package.swift declares, read from its text: the targets in their order, and what each may import.
///
/// It knows the shapes that the manifest uses: `.target(name: "X"`, `.systemLibrary(name: "X"`,
/// `.executableTarget(name: "X"`, the helpers `library("X"` and `tests("X"`, and `let` lists of dependencies by name.
struct Manifest {
    struct Target {
        var name: String
        /// Position in the manifest: a target may import what has a smaller one.
        var rank: Int
        /// Targets and products that it depends on.
        var dependencies: Set<String>
    }

    let targets: [String: Target]

    init(_ text: String) {
        let text = SourceText.withoutComments(text)
        guard let start = text.range(of: "targets: [\n")?.upperBound else {
            targets = [:]
            return
        }
        let lists = Manifest.lists(String(text[..<start]))
        var targets: [String: Target] = [:]
        for opening in [".target", ".systemLibrary", ".executableTarget", "library", "tests"] {
            var rest = text[start...]
            while let found = rest.range(of: opening + "(") {
                rest = rest[found.upperBound...]
                let preceding = text[..<found.lowerBound].last
                guard opening.hasPrefix(".") || preceding?.isWhitespace == true else { continue }
                let declaration = Manifest.parenthesised(rest)
                let strings = Manifest.strings(declaration)
                guard let name = strings.first else { continue }
                var dependencies = Set(strings.dropFirst())
                let words = Set(declaration.split { !$0.isLetter && !$0.isNumber && $0 != "_" }.map(String.init))
                for (list, members) in lists where words.contains(list) { dependencies.formUnion(members) }
                targets[name] = Target(
                    name: name, rank: text.distance(from: start, to: found.lowerBound), dependencies: dependencies)
            }
        }
        self.targets = targets
    }

    /// The strings in each `let NAME…: … = …` before the targets: lists of dependencies that several targets share.
    private static func lists(_ text: String) -> [String: Set<String>] {
        var lists: [String: Set<String>] = [:]
        for declaration in ("\n" + text).components(separatedBy: "\nlet ").dropFirst() {
            let name = declaration.prefix { $0.isLetter || $0.isNumber }
            let firstLine = declaration.prefix { $0 != "\n" }
            let end = firstLine.hasSuffix("[") ? declaration.range(of: "\n]")?.upperBound : firstLine.endIndex
            lists[String(name)] = Set(strings(String(declaration[..<(end ?? declaration.endIndex)])))
        }
        lists["package"] = nil
        return lists
    }

    /// The text up to the parenthesis that closes the one before `text`.
    private static func parenthesised(_ text: Substring) -> String {
        var depth = 1
        var end = text.startIndex
        while end < text.endIndex {
            if text[end] == "(" { depth += 1 }
            if text[end] == ")" { depth -= 1 }
            if depth == 0 { break }
            end = text.index(after: end)
        }
        return String(text[..<end])
    }

    private static func strings(_ text: String) -> [String] {
        text.split(separator: "\"", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }
            .map { String($0.element) }
    }
}
