import Hypervisor
import Messages
import Model
import NIOCore
import Pair
import RomulusAPI
import Standby
import Synchronization
import Transport
import Wire

/// Whether a VM could be protected: asked at both hosts, with nothing changed at either.
extension AgentCore {
    public func check(_ request: CheckRequest) async throws(APIError) -> CheckReport {
        let vm = request.vm
        let peer = try usualPeer(request.standby ?? configuration.vms[vm]?.standby)
        var report = CheckReport(vm: vm, standby: peer, problems: [], notes: [])
        let here = configuration.node
        let (guest, refusals) = try await guest(of: vm, request.qmp)
        report.problems += refusals.map { CheckReport.Finding(host: here, text: $0) }
        report.notes += (guest?.notes ?? []).map { CheckReport.Finding(host: here, text: $0) }
        guard let peer else {
            report.notes.append(
                CheckReport.Finding(host: here, text: "no standby was asked: name one with --standby HOST"))
            return report
        }
        guard let guest else { return report }
        let message = CheckMessage(vm: vm, guest: guest, createsImages: request.createImage ?? false)
        switch await ask(peer, message) {
        case .success(let answer):
            report.problems += answer.problems.map { CheckReport.Finding(host: peer, text: $0) }
            report.notes += answer.notes.map { CheckReport.Finding(host: peer, text: $0) }
        case .failure(let failure):
            report.problems.append(CheckReport.Finding(host: peer, text: failure.message))
        }
        return report
    }

    /// What runs behind the VM's monitor, and why it cannot be protected.
    private func guest(
        of vm: VMName, _ qmp: String?
    ) async throws(APIError) -> (description: GuestDescription?, refusals: [String]) {
        let known = state.withLock { $0.vms[vm] }
        switch known?.part {
        case .primary(let session):
            if let found = session.guest { return (found, []) }
        case .standby:
            throw APIError(.refused, "\(vm) does not run here but at \(known?.peer ?? "another host"): ask there")
        case nil, .some(.none): break
        }
        guard let path = qmp ?? known?.qmp ?? configuration.vms[vm]?.qmp else {
            throw APIError(
                .badRequest, "say where the monitor of \(vm) is: --qmp PATH, or “qmp” in the configuration")
        }
        return try await offPool { [guests] () throws(APIError) in
            do throws(SessionError) {
                return try guests.examine(at: path)
            } catch {
                throw APIError(.refused, "\(error)")
            }
        }
    }

    /// What stands in the way at the standby too, when the guest cannot be protected as it runs: told with this host's
    /// reasons. Nothing when it cannot be asked. Blocks.
    func reasons(of peer: String, _ options: PrimaryOptions, _ guest: GuestDescription) -> [String] {
        let message = CheckMessage(vm: options.vm, guest: guest, createsImages: options.createsImages)
        let answer = blocking { () async throws(Never) in await self.ask(peer, message) }
        guard case .success(let checked) = answer else { return [] }
        return checked.problems.map { "at \(peer): \($0)" }
    }

    private func ask(_ peer: String, _ message: CheckMessage) async -> Result<CheckedMessage, CheckFailure> {
        guard let address = configuration.peers[peer]?.address else {
            return .failure(CheckFailure(message: "it is not in the configuration"))
        }
        let handler = CheckHandler()
        do throws(LinkError) {
            let link = try await LinkDialer.connect(
                host: address.host, port: address.port, identity: identity, expectedPeer: peer, timeout: .seconds(3),
                group: group, handler: handler)
            hear(peer)
            link.send(HelloMessage(node: configuration.node, software: "romulus \(Romulus.version)").frame)
            link.send(message.frame)
            let timeout = Task {
                try await Task.sleep(for: .seconds(20))
                link.close()
            }
            defer {
                timeout.cancel()
                link.close()
            }
            return await handler.answer()
        } catch {
            return .failure(CheckFailure(message: "its agent cannot be asked: \(error)"))
        }
    }

    /// The answer to a host that asks about this one. Called on a thread that may block.
    func answer(_ message: CheckMessage, from peer: String) -> CheckedMessage {
        let admission = Admission(
            message.vm, message.guest, of: peer, createsImages: message.createsImages,
            places: places(of: message.vm, message.guest))
        let inMaintenance = maintenance.isOn ? ["\(configuration.node) is in maintenance"] : []
        return CheckedMessage(problems: inMaintenance + admission.problems, notes: admission.notes)
    }

    /// Where a replica of the VM lies on this host.
    func places(of vm: VMName, _ guest: GuestDescription) -> ReplicaPlaces {
        ReplicaPlaces(
            node: configuration.node, memoryDirectory: "\(configuration.memoryDirectory)/\(vm)",
            runtimeDirectory: "\(configuration.runtimeDirectory)/\(vm)",
            standby: configuration.standbyOptions(for: vm, guest: guest),
            guests: standbys, isRealTime: configuration.defaults.isRealTime, bases: bases)
    }
}

private struct CheckFailure: Error {
    var message: String
}

/// Waits for one answer.
private final class CheckHandler: LinkHandler, Sendable {
    private struct State {
        var outcome: Result<CheckedMessage, CheckFailure>?
        var waiting: CheckedContinuation<Result<CheckedMessage, CheckFailure>, Never>?
    }
    private let state = Mutex(State())

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        do throws(SessionError) {
            switch header.type {
            case .checked: finish(.success(try CheckedMessage(body)))
            case .refuse: finish(.failure(CheckFailure(message: try RefuseMessage(body).reason)))
            default: break
            }
        } catch {
            finish(.failure(CheckFailure(message: error.message)))
        }
    }

    func linkClosed(_ link: Link, error: LinkError?) {
        let reason = error.map { "\($0)" } ?? "it closed the connection"
        finish(
            .failure(CheckFailure(message: "its agent gave no answer (an older version cannot be asked): \(reason)")))
    }

    func answer() async -> Result<CheckedMessage, CheckFailure> {
        await withCheckedContinuation { continuation in
            let outcome = state.withLock { state in
                if state.outcome == nil { state.waiting = continuation }
                return state.outcome
            }
            if let outcome { continuation.resume(returning: outcome) }
        }
    }

    private func finish(_ outcome: Result<CheckedMessage, CheckFailure>) {
        let waiting = state.withLock { state in
            guard state.outcome == nil else {
                return nil as CheckedContinuation<Result<CheckedMessage, CheckFailure>, Never>?
            }
            state.outcome = outcome
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume(returning: outcome)
    }
}
