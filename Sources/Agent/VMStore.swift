import Foundation
import LinuxSystem
import Model
import Protocol
import Synchronization

/// What this agent remembers of its VMs over its own end, and over a power cut: one file for each in
/// `state_directory/vms`.
final class VMStore: Sendable {
    struct Memory: Codable, Sendable {
        var local = LocalRecord()
        /// The guest that this host has in hand; nil when it has none.
        var guest: Guest?
    }

    /// Which QEMU process is meant, and how it was protected.
    struct Guest: Codable, Sendable {
        var pid: Int32
        /// In clock ticks since the host was started: tells the process from a later one of the same number.
        var startTime: UInt64
        var lineage: Lineage
        var qmp: String
        var standby: NodeName
        var level: Level
        var epochMilliseconds: Int
        /// The rest of its tuning; absent where there is none, and in what older agents wrote.
        var goal: EpochGoal?
        var pauseBudget: Int?
        var linkCapMegabits: Int?

        var tuning: EpochTuning {
            get {
                EpochTuning(
                    epochMilliseconds: epochMilliseconds, goal: goal, pauseBudget: pauseBudget,
                    linkCapMegabits: linkCapMegabits)
            }
            set {
                epochMilliseconds = newValue.epochMilliseconds
                goal = newValue.goal
                pauseBudget = newValue.pauseBudget
                linkCapMegabits = newValue.linkCapMegabits
            }
        }

        /// True while that process runs.
        var isAlive: Bool { VMStore.startTime(of: pid) == startTime && processRuns(pid) }
    }

    private let directory: DurableDirectory
    private let memories: Mutex<[VMName: Memory]>

    /// Opens or makes `path`. A file that cannot be read stops the agent: what it may do rests on it.
    init(_ path: String) throws {
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        directory = try DurableDirectory(path, exclusively: false)
        var found: [VMName: Memory] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: path) where name.hasSuffix(".json") {
            guard let vm = VMName(String(name.dropLast(5))) else { continue }
            let data = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
            do {
                found[vm] = try JSONDecoder().decode(Memory.self, from: data)
            } catch {
                throw ConfigurationError(
                    path: "\(path)/\(name)",
                    [
                        .init(
                            line: nil,
                            message:
                                "what was remembered of \(vm) cannot be read (\(error)); restore the file, or remove it"
                                + " when no other host runs that VM")
                    ])
            }
        }
        memories = Mutex(found)
    }

    var vms: [VMName] { memories.withLock { $0.keys.sorted() } }

    subscript(vm: VMName) -> Memory { memories.withLock { $0[vm] ?? Memory() } }

    /// Changes what is remembered; returns when it is on stable storage.
    func update(_ vm: VMName, _ change: (inout Memory) -> Void) throws(SystemError) {
        try memories.withLock { (memories) throws(SystemError) in
            var memory = memories[vm] ?? Memory()
            change(&memory)
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            // Plain value types with string keys: encoding them cannot fail.
            guard let data = try? encoder.encode(memory) else { preconditionFailure("a VM's memory is not encodable") }
            _ = try directory.replace("\(vm).json", with: Array(data))
            memories[vm] = memory
        }
    }

    /// Field 22 of `/proc/PID/stat`; nil when there is no such process.
    static func startTime(of pid: Int32) -> UInt64? {
        guard let fields = ProcessFiles.statistics(of: pid) else { return nil }
        return fields.count > 19 ? UInt64(fields[19]) : nil
    }
}
