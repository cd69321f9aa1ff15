/// What `romulus verify` prints for people.
public enum VerificationText {
    private static let linesMax = 10

    public static func text(_ result: Verification, colour: Bool) -> String {
        let verdict =
            result.differing == 0
            ? Style.good.apply(to: "equal", colour: colour) : Style.bad.apply(to: "differing", colour: colour)
        var lines = [
            "\(result.vm): \(verdict): \(result.sentence)",
            "  the replica at \(result.peer), at \(span(result)), in \(Units.decimal(result.seconds, 1)) s"
                + (result.leftOut > 0 ? "; \(result.leftOut) pages of ROMs are left out" : ""),
        ]
        lines += result.differences.prefix(linesMax).map { "  differs: page \($0.page) of \(Table.oneLine($0.block))" }
        if result.differing > linesMax { lines.append("  and \(result.differing - linesMax) more") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// How far it is, on one line.
    public static func progress(_ result: Verification) -> String {
        "\(result.vm): \(Int(result.ratio * 100)) %  \(result.compared) of \(result.pages) pages compared,"
            + " \(result.differing) differ"
    }

    private static func span(_ result: Verification) -> String {
        guard let first = result.firstEpoch, let last = result.lastEpoch else { return "no checkpoint" }
        return "\(result.epochs) checkpoints from \(first) to \(last)"
    }
}
