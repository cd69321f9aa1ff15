/// Why no command line for the standby could be derived: all reasons at once.
public struct StandbyCommandError: Error, Hashable, Sendable, CustomStringConvertible {
    /// One sentence each.
    public var problems: [String]
    public var description: String { "no command line for the standby: \(problems.joined(separator: "; "))" }

    package init(_ problems: [String]) { self.problems = problems }

    /// `option` is the one meant, as a line; empty when it is the VM as a whole.
    package init(option: String, problem: String) { problems = [option.isEmpty ? problem : "\(option): \(problem)"] }
}
