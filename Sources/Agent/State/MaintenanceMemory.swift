import Foundation
import LinuxSystem
import Model
import Synchronization

/// Whether this host is to be empty of protected VMs, and which come back to it afterwards: what survives a restart.
final class MaintenanceMemory: Sendable {
    struct Wanted: Codable {
        var isOn = false
        /// VMs that were moved away and are to come back.
        var moved: [VMName] = []
    }

    private static let file = "maintenance.json"

    private let directory: DurableDirectory
    private let state: Mutex<Wanted>

    /// Takes up what an earlier run of the agent wanted.
    init(stateDirectory: String) throws {
        directory = try DurableDirectory(stateDirectory, exclusively: false)
        let path = "\(stateDirectory)/\(Self.file)"
        guard FileManager.default.fileExists(atPath: path) else {
            state = Mutex(Wanted())
            return
        }
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            state = Mutex(try JSONDecoder().decode(Wanted.self, from: data))
        } catch {
            throw ConfigurationError(
                path: path,
                [.init(line: nil, message: "cannot be read (\(error)); remove it, the host is then not in maintenance")]
            )
        }
    }

    var wanted: Wanted { state.withLock { $0 } }
    var isOn: Bool { wanted.isOn }

    /// Returns when it is durable.
    func change(_ body: (inout Wanted) -> Void) throws {
        try state.withLock { state in
            var wanted = state
            body(&wanted)
            _ = try directory.replace(Self.file, with: Array(try JSONEncoder().encode(wanted)))
            state = wanted
        }
    }
}
