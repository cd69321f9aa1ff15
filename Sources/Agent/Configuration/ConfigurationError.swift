/// Everything that is wrong with a configuration, so that it can be put right in one go.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    public struct Problem: Sendable, Equatable {
        /// From 1; nil when it concerns the file as a whole.
        public var line: Int?
        /// What is expected, in words.
        public var message: String
    }

    public var path: String
    public var problems: [Problem]

    init(path: String, _ problems: [Problem]) {
        self.path = path
        self.problems = problems
    }

    /// One `file:line: what is expected` a line, in the order of the file.
    public var description: String {
        problems.map { problem in
            problem.line.map { "\(path):\($0): \(problem.message)" } ?? "\(path): \(problem.message)"
        }.joined(separator: "\n")
    }
}
