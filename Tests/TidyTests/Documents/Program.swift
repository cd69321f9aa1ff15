import Foundation

/// What a program's command line understands, read from its declarations: `ParsableCommand` types with `@Option`,
/// `@Flag` and `@OptionGroup`.
struct Program {
    /// Options of each verb, by its words: `["pki", "init"]`; long and short names with their dashes. Every verb has
    /// those of the argument parser itself.
    private(set) var verbs: [[String]: Set<String>] = [:]
    /// Options that come from the groups of the same name in many verbs.
    private(set) var common: Set<String> = ["--help", "-h", "--version"]

    var allOptions: Set<String> { verbs.values.reduce(common) { $0.union($1) } }

    /// `root` is the type that is the program itself; options of `shared` groups are common to all.
    init(sources: [String], root: String, shared: Set<String> = []) {
        let types = Self.types(sources.map(SourceText.withoutComments))
        func options(_ type: String) -> Set<String> {
            guard let body = types[type] else { return [] }
            return Self.groups(body).filter { !shared.contains($0) }
                .reduce(Self.options(body)) { $0.union(options($1)) }
        }
        func visit(_ type: String, _ path: [String]) {
            guard let body = types[type] else { return }
            let below = Self.subcommands(body)
            if below.isEmpty || !Self.options(body).isEmpty { verbs[path] = options(type) }
            for name in below { visit(name, path + [Self.commandName(types[name] ?? "")]) }
        }
        visit(root, [])
        for group in shared {
            common.formUnion(options(group))
        }
    }

    /// Bodies of structures by name.
    private static func types(_ texts: [String]) -> [String: String] {
        var types: [String: String] = [:]
        for text in texts {
            for match in text.matches(of: #/\bstruct (\w+)[^{\n]*\{/#) {
                var depth = 1
                let body = text[match.range.upperBound...].prefix { character in
                    if character == "{" { depth += 1 }
                    if character == "}" { depth -= 1 }
                    return depth > 0
                }
                types[String(match.1)] = String(body)
            }
        }
        return types
    }

    private static func commandName(_ body: String) -> String {
        body.firstMatch(of: #/commandName:\s*"([^"]+)"/#).map { String($0.1) } ?? ""
    }

    private static func subcommands(_ body: String) -> [String] {
        guard let list = body.firstMatch(of: #/subcommands:\s*\[([^\]]*)\]/#) else { return [] }
        return list.1.matches(of: #/(\w+)\.self/#).map { String($0.1) }
    }

    private static func groups(_ body: String) -> [String] {
        body.matches(of: #/@OptionGroup(?:\([^)]*\))?\s+(?:\w+\s+)?var \w+: (\w+)/#).map { String($0.1) }
    }

    private static func options(_ body: String) -> Set<String> {
        var names: Set<String> = []
        for start in body.matches(of: #/@(?:Option|Flag)\b/#) {
            let rest = body[start.range.upperBound...]
            guard let variable = rest.firstMatch(of: #/\bvar (\w+)/#) else { continue }
            let declaration = rest[..<variable.range.lowerBound]
            let long = variable.1.map { $0.isUppercase ? "-\($0.lowercased())" : String($0) }.joined()
            let custom =
                declaration.matches(of: #/\.customLong\("([^"]+)"\)/#).map { "--\($0.1)" }
                + declaration.matches(of: #/\.customShort\("([^"]+)"\)/#).map { "-\($0.1)" }
            names.formUnion(custom.isEmpty ? ["--" + long] : custom)
            if declaration.contains(".shortAndLong") { names.insert("-" + String(long.prefix(1))) }
        }
        return names
    }
}
