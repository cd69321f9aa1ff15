/// One option of a command line with its value, for example `-m` and `5G`. A bare word has no name.
public struct CommandOption: Hashable, Sendable, Codable, CustomStringConvertible {
    /// With one leading dash, whichever way it was written; empty for a bare word.
    public var name: String
    public var value: String?

    public init(_ name: String, _ value: String? = nil) {
        self.name = name
        self.value = value
    }

    public var description: String { words.joined(separator: " ") }
    public var words: [String] { [name.isEmpty ? nil : name, value].compactMap { $0 } }
}
