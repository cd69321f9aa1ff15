/// “Did you mean …?”
enum Suggestion {
    /// The candidate that is nearest to `text`, when one is near enough to be meant.
    static func nearest(to text: String, among candidates: [String]) -> String? {
        let limit = max(1, min(3, text.count / 3))
        return candidates.map { (distance($0, text), $0) }.filter { $0.0 <= limit }.min { $0 < $1 }?.1
    }

    /// Edit distance: insertions, deletions, substitutions and swaps of neighbours.
    static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.lowercased())
        let b = Array(b.lowercased())
        // A key that long is no slip of the finger, and the table would be large.
        guard a.count <= 64, b.count <= 64 else { return max(a.count, b.count) }
        var rows = Array(repeating: Array(repeating: 0, count: b.count + 1), count: a.count + 1)
        for i in 0...a.count { rows[i][0] = i }
        for j in 0...b.count { rows[0][j] = j }
        for i in a.indices {
            for j in b.indices {
                var best = min(rows[i][j + 1] + 1, rows[i + 1][j] + 1, rows[i][j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, rows[i - 1][j - 1] + 1) }
                rows[i + 1][j + 1] = best
            }
        }
        return rows[a.count][b.count]
    }
}
