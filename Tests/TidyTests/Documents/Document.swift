import Foundation

/// A page of Markdown as the checks see it: lines of prose with their code spans and links, and blocks of code.
struct Document {
    struct Line {
        let number: Int
        let text: String
        /// Whether it stands in a block of code: indented by four spaces after an empty line, or fenced.
        let isCode: Bool
    }

    /// The path from the root of the repository.
    let path: String
    let lines: [Line]

    init(path: String, text: String) {
        self.path = path
        var lines: [Line] = []
        var isFenced = false
        var isIndented = false
        var isInList = false
        for (index, text) in text.components(separatedBy: "\n").enumerated() {
            let isFence = text.trimmingCharacters(in: .whitespaces).hasPrefix("```")
            let isEmpty = text.allSatisfy(\.isWhitespace)
            let followsGap = lines.last.map { $0.text.allSatisfy(\.isWhitespace) } ?? true
            let indent = text.prefix { $0 == " " }.count
            if !isEmpty, indent == 0 { isInList = text.hasPrefix("- ") || text.first?.isNumber == true }
            if !isEmpty { isIndented = indent >= (isInList ? 6 : 4) && (isIndented || followsGap) }
            lines.append(Line(number: index + 1, text: text, isCode: isFenced || isFence || isIndented && !isEmpty))
            if isFence { isFenced.toggle() }
        }
        self.lines = lines
    }

    /// Blocks of code, each as its lines, without the fences.
    var blocks: [[Line]] {
        var blocks: [[Line]] = [[]]
        for line in lines where line.isCode {
            if line.text.contains("```") {
                blocks.append([])
            } else if let last = blocks[blocks.count - 1].last, !isGap(last.number, line.number) {
                blocks.append([line])
            } else {
                blocks[blocks.count - 1].append(line)
            }
        }
        return blocks.filter { !$0.isEmpty }
    }

    /// Whether only empty lines stand between the two.
    private func isGap(_ first: Int, _ second: Int) -> Bool {
        lines[first..<(second - 1)].allSatisfy { $0.text.allSatisfy(\.isWhitespace) }
    }

    /// What stands between single backquotes in prose; a span ends in the line in which it begins.
    var spans: [(text: String, line: Int)] {
        lines.filter { !$0.isCode }.flatMap { line in
            line.text.split(separator: "`", omittingEmptySubsequences: false).enumerated()
                .filter { $0.offset % 2 == 1 }.map { (String($0.element), line.number) }
        }
    }

    /// Targets of links and images in prose.
    var links: [(target: String, line: Int)] {
        lines.filter { !$0.isCode }.flatMap { line in
            line.text.matches(of: #/\]\(([^)\s]+)\)/#).map { (String($0.1), line.number) }
                + line.text.matches(of: #/(?:src|srcset|href)="([^"]+)"/#).map { (String($0.1), line.number) }
        }
    }

    /// The anchors of the headings, as GitHub makes them.
    var anchors: Set<String> {
        Set(
            lines.filter { !$0.isCode && $0.text.hasPrefix("#") }.map { line in
                line.text.drop { $0 == "#" || $0 == " " }.lowercased().compactMap { character -> String? in
                    if character == " " { return "-" }
                    return character.isLetter || character.isNumber || "-_".contains(character)
                        ? String(character) : nil
                }.joined()
            })
    }

    /// The lines below the heading for which `isMeant` holds, up to the next one of the same level or a higher one.
    func section(where isMeant: (String) -> Bool) -> [Line] {
        func level(_ line: Line) -> Int { line.isCode ? 0 : line.text.prefix { $0 == "#" }.count }
        guard
            let start = lines.firstIndex(where: { level($0) > 0 && isMeant(String($0.text.drop { "# ".contains($0) })) }
            )
        else { return [] }
        let rest = lines[(start + 1)...]
        let end = rest.firstIndex { level($0) > 0 && level($0) <= level(lines[start]) } ?? rest.endIndex
        return Array(rest[..<end])
    }
}
