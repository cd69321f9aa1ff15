import Foundation

/// The words that the sources give to an operator: verbs and options, keys of the configuration, metrics, and where
/// things lie.
struct Vocabulary: Sendable {
    /// By the program's name.
    var programs: [String: Program]
    /// Keys of the configuration, without the sections around them.
    var keys: Set<String>
    /// Sections whose own keys are names that the operator chooses.
    var sectionsOfNames: Set<String> = ["vms", "peers", "disks", "taps", "files", "replace"]
    var metrics: Set<String>
    /// All words of the sources, comments and literals included.
    var words: Set<String>
    /// Targets of the Makefile.
    var makeTargets: Set<String>
    /// Whether a file or folder of that name, from the root of the repository, is there; `*` stands for anything.
    var exists: @Sendable (String) -> Bool

    /// Keys that the texts of `Configuration` read.
    static func keys(_ sources: [String]) -> Set<String> {
        let readers = "required|value|section|choice|integer|flag|text|texts|path|list|number|optionLines"
        guard let call = try? Regex("[.\\s(](?:\(readers))\\(\\s*(?:&\\w+, )?\"([a-z0-9_]+)\"") else { return [] }
        var keys: Set<String> = []
        for source in sources.map(SourceText.withoutComments) {
            for match in source.matches(of: call) { keys.insert(String(match.output[1].substring ?? "")) }
            // A list of keys of one kind, as of the files of etcd's TLS.
            for list in source.matches(of: #/= \[((?:"[a-z_]+"(?:, )?)+)\]\.map \{ key in/#) {
                for key in list.1.matches(of: #/[a-z_]+/#) { keys.insert(String(key.0)) }
            }
        }
        return keys
    }

    /// Names of metrics that the texts declare.
    static func metrics(_ sources: [String]) -> Set<String> {
        Set(
            sources.map(SourceText.withoutComments).flatMap { source in
                source.matches(of: #/"((?:romulus|process)_[a-z0-9_]+)"/#).map { String($0.1) }
            })
    }

    static func words(_ texts: [String]) -> Set<String> {
        texts.reduce(into: []) { words, text in
            for word in text.utf8.split(whereSeparator: { !House.isPartOfWord($0) }) {
                words.insert(String(Substring(word)))
            }
        }
    }

    static func makeTargets(_ makefile: String) -> Set<String> {
        Set(
            makefile.components(separatedBy: "\n").compactMap { line in
                line.firstMatch(of: #/^([a-z]+):/#).map { String($0.1) }
            })
    }
}
