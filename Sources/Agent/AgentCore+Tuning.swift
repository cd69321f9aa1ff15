import LinuxSystem
import Model
import RomulusAPI

/// Changing what the epochs of a VM are like while it is protected.
extension AgentCore {
    public func tune(_ request: TuneRequest) async throws(APIError) -> VMStatus {
        let vm = request.vm
        let record = try record(of: vm)
        guard case .primary(let session) = record.part else {
            let way = record.role == .standby ? "tune it at \(record.peer), where the guest runs" : "protect it first"
            throw APIError(.refused, "\(configuration.node) does not protect \(vm) (\(record.state.rawValue)): \(way)")
        }
        let tuning = request.applied(to: session.tuning)
        if let refusal = request.reasonToRefuse(after: session.tuning) { throw APIError(.refused, refusal) }
        session.tune(tuning)
        state.withLock { $0.vms[vm]?.tuning = tuning }
        do throws(SystemError) {
            try store.update(vm) { memory in
                memory.guest?.tuning = tuning
                memory.word?.request?.take(request)
            }
        } catch {
            note(vm, .error, "how \(vm) is tuned cannot be remembered over a restart of this agent: \(error)")
        }
        note(vm, .tuned, "\(vm) was tuned: \(tuning)")
        return try self.record(of: vm).status()
    }
}
