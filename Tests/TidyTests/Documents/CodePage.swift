/// The page that tells where a line of code lives: every name in it is a target, or a file or folder that is there.
enum CodePage {
    /// `exists` takes a path from the root of the repository. In a row of a table a name may also stand below a
    /// target of that row.
    static func findings(_ page: Document, targets: Set<String>, exists: (String) -> Bool) -> [Finding] {
        var told: Set<String> = []
        var findings: [Finding] = []
        for (line, spans) in Dictionary(grouping: page.spans, by: \.line).sorted(by: { $0.key < $1.key }) {
            // What has a space is a command, which other checks look at.
            let names = spans.map(\.text).filter { !$0.contains(" ") }
            let named = names.filter(targets.contains)
            told.formUnion(named)
            let isRow = page.lines[line - 1].text.hasPrefix("|")
            let folders = ["", "Sources/", "Tests/"] + (isRow ? named.map { "Sources/\($0)/" } : [])
            for name in names where !targets.contains(name) && !folders.contains(where: { exists($0 + name) }) {
                findings.append(
                    Finding(path: page.path, line: line, message: "“\(name)” is neither a target nor a file or folder"))
            }
        }
        return findings
            + targets.subtracting(told).sorted().map {
                Finding(path: page.path, line: 1, message: "the target \($0) is not told of")
            }
    }
}
