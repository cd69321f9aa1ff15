/// The first rule that was broken in a run.
struct Verdict {
    struct Violation {
        /// As in docs/INVARIANTS.md: `I1`, or `live` for service that did not come back.
        var rule: String
        var text: String
    }
    private(set) var violation: Violation?

    mutating func fail(_ rule: String, _ text: @autoclosure () -> String) {
        if violation == nil { violation = Violation(rule: rule, text: text()) }
    }
}
