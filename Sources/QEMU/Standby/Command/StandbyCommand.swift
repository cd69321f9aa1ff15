import Glibc
import Hypervisor

/// The command line of a standby's QEMU, derived from the primary's; docs/STANDBY-COMMAND.md has the rules.
public struct StandbyCommand: Hashable, Sendable, Codable {
    /// A file that holds a RAM block and is shared with the agent. It must exist with this length before QEMU starts.
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
    /// A file that QEMU reads at start and that nobody replicates.
    public struct RequiredFile: Hashable, Sendable, Codable {
        public var path: String
        /// What it is, for example `-kernel`.
        public var purpose: String
    }

    public var program: String
    public var options: [QEMUOption]
    public var workingDirectory: String
    public var monitorPath: String
    public var memoryFiles: [MemoryFile]
    public var requiredFiles: [RequiredFile]
    /// What was dropped or changed beyond the plain rules, one sentence each.
    public var notes: [String]

    public var arguments: [String] { [program] + options.flatMap(\.words) }

    /// The tap interfaces that QEMU is told to use without a script that would put them into a bridge.
    public var taps: [String] {
        options.filter { ["-netdev", "-nic", "-net"].contains($0.name) }.compactMap { option in
            let value = OptionValue(option.value ?? "", impliedKey: "type")
            return value["type"] == "tap" && value["script"] == "no" ? value["ifname"] : nil
        }
    }

    /// For a shell, one option per line.
    public var shellText: String {
        ([Self.quote(program)] + options.map { $0.words.map(Self.quote).joined(separator: " ") })
            .joined(separator: " \\\n    ")
    }

    public static func derive(
        _ guest: GuestDescription, _ options: StandbyOptions
    ) throws(StandbyCommandError) -> StandbyCommand {
        var derivation = Derivation(guest: guest, options: options)
        return try derivation.run()
    }

    /// One sentence per required file that is not here.
    public func missingFiles() -> [String] {
        requiredFiles.filter { access($0.path, R_OK) != 0 }.map { file in
            "the standby's QEMU needs \(file.path) (\(file.purpose)), which cannot be read here: "
                + "copy it from the primary or map it in the VM's standby files"
        }
    }

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
