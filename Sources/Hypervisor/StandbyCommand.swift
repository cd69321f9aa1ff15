/// What starts a standby's guest, derived from the primary's; docs/STANDBY-COMMAND.md has the rules. Kept as JSON with the
/// replica.
public struct StandbyCommand: Hashable, Sendable, Codable {
    /// A file that holds a RAM block and is shared with the agent. It must exist with this length before the guest starts.
    public struct MemoryFile: Hashable, Sendable, Codable {
        public var block: String
        public var path: String
        public var length: UInt64

        public init(block: String, path: String, length: UInt64) {
            self.block = block
            self.path = path
            self.length = length
        }
    }
    /// A file that is read at the start and that nobody replicates.
    public struct RequiredFile: Hashable, Sendable, Codable {
        public var path: String
        /// What it is, for example `-kernel`.
        public var purpose: String

        package init(path: String, purpose: String) {
            self.path = path
            self.purpose = purpose
        }
    }

    public var program: String
    public var options: [CommandOption]
    public var workingDirectory: String
    public var monitorPath: String
    public var memoryFiles: [MemoryFile]
    public var requiredFiles: [RequiredFile]
    /// What was dropped or changed beyond the plain rules, one sentence each.
    public var notes: [String]

    package init(
        program: String, options: [CommandOption], workingDirectory: String, monitorPath: String,
        memoryFiles: [MemoryFile], requiredFiles: [RequiredFile], notes: [String]
    ) {
        self.program = program
        self.options = options
        self.workingDirectory = workingDirectory
        self.monitorPath = monitorPath
        self.memoryFiles = memoryFiles
        self.requiredFiles = requiredFiles
        self.notes = notes
    }

    public var arguments: [String] { [program] + options.flatMap(\.words) }

    /// For a shell, one option per line.
    public var shellText: String {
        ([Self.quote(program)] + options.map { $0.words.map(Self.quote).joined(separator: " ") })
            .joined(separator: " \\\n    ")
    }

    /// As the operator reads it: one option a line, and what was changed as comments.
    public var text: String { (notes.map { "# \($0)" } + [shellText]).joined(separator: "\n") }

    private static func quote(_ word: String) -> String {
        let plain = word.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "-_=,./:@%+".utf8.contains(byte)
            }
        }
        if plain, !word.isEmpty { return word }
        return "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
