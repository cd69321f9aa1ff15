import Model
import Pair
import RomulusAPI

/// Planned changes of host, and what only the operator can decide.
extension AgentCore {
    public func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus {
        let record = try record(of: request.vm)
        do throws(APIError) {
            try await beginSwitchover(of: record)
        } catch {
            if error.code == .refused { note(request.vm, .refused, "a switchover was refused: \(error.message)") }
            throw error
        }
        if case .primary(let session) = record.part { try await awaitSounding(session, of: request.vm) }
        guard let wait = request.waitMilliseconds else { return try self.record(of: request.vm).status() }
        let deadline = ContinuousClock.now + .milliseconds(wait)
        while ContinuousClock.now < deadline {
            switch record.switchover {
            case .done: return try self.record(of: request.vm).status()
            case .failed(let reason):
                throw APIError(.failed, "the switchover of \(request.vm) failed, it goes on where it was: \(reason)")
            case .underWay: try? await Task.sleep(for: .milliseconds(10))
            }
        }
        throw APIError(
            .timeout,
            "the switchover of \(request.vm) is not over after \(wait) ms: “romulus why \(request.vm)” tells more")
    }

    /// Until the arbiter has answered, which it does within seconds or counts as away; its session notes why not.
    private func awaitSounding(_ session: PrimaryShell, of vm: VMName) async throws(APIError) {
        while session.isSounding { try? await Task.sleep(for: .milliseconds(2)) }
        guard case .failed = session.switchover, let refusal = session.switchoverRefusal else { return }
        throw APIError(.refused, "\(vm) cannot be moved now, and runs on: \(refusal)")
    }

    private func beginSwitchover(of record: VMRecord) async throws(APIError) {
        let (vm, state) = (record.name, record.state)
        guard state == .protected else {
            throw APIError(.refused, "\(vm) is \(state.rawValue), not protected: no other host could go on with it")
        }
        switch record.part {
        case .primary(let session):
            note(vm, .request, "a switchover was asked for: \(record.peer) is to go on with the guest")
            if let refusal = session.switchOver() { throw APIError(.refused, "\(vm) cannot be moved now: \(refusal)") }
        case .standby(let session):
            note(vm, .request, "a switchover was asked for: this host is to go on with the guest")
            if let reason = await session.reasonToWait() {
                throw APIError(
                    .refused, "\(vm) cannot be moved now, and runs on: the arbiter would have to agree, and \(reason)")
            }
            guard session.ask(.switchover, because: "\(configuration.node) asked for a switchover") else {
                throw APIError(.refused, "\(record.peer) cannot be asked: it is not heard")
            }
        case .none:
            throw APIError(.refused, "\(configuration.node) has nothing of \(vm) any more")
        }
    }

    public func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus {
        let record = try record(of: request.vm)
        let goesOn = request.decision == .goOn
        guard case .primary(let session) = record.part, [.frozen, .forked, .handingOver].contains(record.state) else {
            throw APIError(
                .refused, "there is nothing to decide about \(request.vm): it is \(record.state.rawValue) here")
        }
        note(
            request.vm, .forced,
            goesOn
                ? "the operator says that the guest goes on here, alone"
                : "the operator says that this copy of the guest is given up")
        // The operator's word is on the disk before it takes effect, unless the disk itself is the trouble.
        _ = await journal.saved(within: .seconds(1))
        if let refusal = session.decide(goesOn: goesOn) { throw APIError(.refused, "\(request.vm): \(refusal)") }
        return try self.record(of: request.vm).status()
    }

    public func maintenance() async throws(APIError) -> MaintenanceStatus { maintenance.status(of: self) }

    public func setMaintenance(_ request: MaintenanceRequest) async throws(APIError) -> MaintenanceStatus {
        do {
            try maintenance.set(isOn: request.isOn, stay: request.stay ?? false)
        } catch {
            throw APIError(
                .failed, "that maintenance was turned \(request.isOn ? "on" : "off") cannot be kept: \(error)")
        }
        note(nil, .request, "maintenance of \(configuration.node) was turned \(request.isOn ? "on" : "off")")
        return maintenance.status(of: self)
    }
}

extension VMRecord {
    /// How a switchover of it stands, as its session at this host sees it.
    var switchover: Switchover {
        switch part {
        case .primary(let session): session.switchover
        case .standby(let session): session.switchover
        case .none: .failed("its session ended")
        }
    }
}
