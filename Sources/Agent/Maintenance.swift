import Foundation
import LinuxSystem
import Model
import RomulusAPI
import Synchronization

/// Empties this host of protected VMs, and takes back what it moved away.
///
/// What is wanted is durable; what is done for it is repeated until it holds, so that neither a restart nor a switchover
/// that failed once leaves it half-done.
final class Maintenance: Sendable {
    private struct Wanted: Codable {
        var isOn = false
        /// VMs that were moved away and are to come back.
        var moved: [VMName] = []
    }

    private struct State {
        var wanted: Wanted
        /// When something was last asked of a VM's session.
        var asked: [VMName: ContinuousClock.Instant] = [:]
    }

    /// Between two looks, and between two requests to one VM.
    private static let period = Duration.milliseconds(200)
    /// Between two looks while there is nothing to do: an agent with idle guests shall be idle itself.
    private static let restPeriod = Duration.seconds(1)
    private static let patience = Duration.seconds(10)
    private static let file = "maintenance.json"

    private let directory: DurableDirectory
    private let state: Mutex<State>

    /// Takes up what an earlier run of the agent wanted.
    init(stateDirectory: String) throws {
        directory = try DurableDirectory(stateDirectory, exclusively: false)
        let path = "\(stateDirectory)/\(Self.file)"
        guard FileManager.default.fileExists(atPath: path) else {
            state = Mutex(State(wanted: Wanted()))
            return
        }
        do {
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            state = Mutex(State(wanted: try JSONDecoder().decode(Wanted.self, from: data)))
        } catch {
            throw ConfigurationError(
                path: path,
                [.init(line: nil, message: "cannot be read (\(error)); remove it, the host is then not in maintenance")]
            )
        }
    }

    var isOn: Bool { state.withLock { $0.wanted.isOn } }

    /// Returns when it is durable.
    func set(isOn: Bool, stay: Bool) throws {
        try change { wanted in
            wanted.isOn = isOn
            if stay { wanted.moved = [] }
        }
        state.withLock { $0.asked = [:] }
    }

    private func change(_ body: (inout Wanted) -> Void) throws {
        try state.withLock { state in
            var wanted = state.wanted
            body(&wanted)
            _ = try directory.replace(Self.file, with: Array(try JSONEncoder().encode(wanted)))
            state.wanted = wanted
        }
    }

    /// Does what there is to do, until the task is cancelled.
    func run(for core: AgentCore) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: look(core) ? Self.period : Self.restPeriod)
        }
    }

    /// Returns whether there is anything to do.
    private func look(_ core: AgentCore) -> Bool {
        let wanted = state.withLock { $0.wanted }
        guard wanted.isOn || !wanted.moved.isEmpty else { return false }
        for record in core.refreshed() where record.isActive {
            if wanted.isOn { empty(record, core) } else { takeBack(record, wanted, core) }
        }
        return true
    }

    private func empty(_ record: VMRecord, _ core: AgentCore) {
        let vm = record.name
        switch record.part {
        case .primary(let session) where record.state == .protected:
            guard mayAsk(vm) else { return }
            do {
                // Known before it leaves: a host that goes down right after it comes back for it.
                try change { if !$0.moved.contains(vm) { $0.moved.append(vm) } }
            } catch {
                return core.note(vm, .error, "\(vm) is not moved, that it was moved cannot be kept: \(error)")
            }
            noteAsked(vm)
            // What is asked again and again for the same reason is no news; that it was refused, the session notes.
            if session.switchoverRefusal == nil {
                core.note(vm, .request, "maintenance: \(record.peer) is to go on with the guest")
            }
            if let refusal = session.switchOver() { core.note(vm, .refused, "\(vm) cannot be moved now: \(refusal)") }
        case .standby(let session) where [.protected, .stalled, .syncing].contains(record.state):
            guard mayAsk(vm) else { return }
            noteAsked(vm)
            core.note(vm, .request, "maintenance: this host is the standby of \(vm) no longer")
            _ = session.ask(.leave, because: "\(core.configuration.node) is in maintenance")
        case .primary, .standby, .none:
            break
        }
    }

    private func takeBack(_ record: VMRecord, _ wanted: Wanted, _ core: AgentCore) {
        let vm = record.name
        guard wanted.moved.contains(vm) else { return }
        switch record.part {
        case .primary:
            try? change { $0.moved.removeAll { $0 == vm } }
        case .standby(let session) where record.state == .protected:
            guard mayAsk(vm) else { return }
            noteAsked(vm)
            core.note(vm, .request, "maintenance is over: this host is to go on with the guest")
            _ = session.ask(.switchover, because: "\(core.configuration.node) takes \(vm) back after its maintenance")
        case .standby, .none:
            break
        }
    }

    private func mayAsk(_ vm: VMName) -> Bool {
        state.withLock { state in state.asked[vm].map { $0 + Self.patience < .now } ?? true }
    }

    private func noteAsked(_ vm: VMName) { state.withLock { $0.asked[vm] = .now } }

    /// Why a VM is still here while the host is to be empty, and whether that stays so.
    private static func look(at record: VMRecord) -> (stays: Bool, reason: String) {
        let here = "\(record.role.rawValue) here (\(record.state.rawValue))"
        guard case .primary(let session) = record.part else { return (false, "\(here), is being moved away") }
        if session.isAlone {
            return (true, "runs here without a standby, so it stays until it is protected or moved by hand")
        }
        guard let refusal = session.switchoverRefusal else { return (false, "\(here), is being moved away") }
        return (false, "\(here), cannot be moved yet: \(refusal)")
    }

    func status(of core: AgentCore) -> MaintenanceStatus {
        let wanted = state.withLock { $0.wanted }
        let active = core.refreshed().filter(\.isActive)
        var left: [MaintenanceStatus.VM] = []
        if wanted.isOn {
            left = active.map { record in
                let (stays, reason) = Self.look(at: record)
                return MaintenanceStatus.VM(name: record.name, stays: stays, reason: reason)
            }
        } else {
            left = wanted.moved.map { vm in
                let here = active.first { $0.name == vm }
                let reason =
                    here.map { "\($0.role.rawValue) here (\($0.state.rawValue))" }
                    ?? "is not protected towards this host yet"
                return MaintenanceStatus.VM(
                    name: vm, stays: false, reason: reason + ", comes back when it is protected")
            }
        }
        let state: MaintenanceStatus.State =
            wanted.isOn ? (left.allSatisfy(\.stays) ? .empty : .emptying) : (wanted.moved.isEmpty ? .off : .returning)
        return MaintenanceStatus(node: core.configuration.node, state: state, vms: left, moved: wanted.moved)
    }
}
