import LinuxSystem
import Model

/// Whether this host is to be empty of protected VMs, and which come back to it afterwards: what survives a restart.
final class MaintenanceMemory: Sendable {
    struct Wanted: Codable {
        var isOn = false
        /// VMs that were moved away and are to come back.
        var moved: [VMName] = []
    }

    private let directory: DurableDirectory
    private let file: DurableFile<Wanted>

    /// Takes up what an earlier run of the agent wanted.
    init(stateDirectory: String) throws {
        directory = try DurableDirectory(stateDirectory, exclusively: false)
        file = try DurableFile("maintenance.json", in: directory, .replaced, initial: Wanted()) { error in
            "cannot be read (\(error)); remove it, the host is then not in maintenance"
        }
    }

    var wanted: Wanted { file.value }
    var isOn: Bool { wanted.isOn }

    /// Returns when it is durable.
    func change(_ body: (inout Wanted) -> Void) throws(SystemError) { try file.change(in: directory, body) }
}
