import Foundation
import Journal
import LinuxSystem
import Model
import Protocol
import RomulusAPI
import Telemetry

/// The operator's verbs: what stands behind the API.
struct Desk: AgentService {
    let node: NodeName
    let started = Date()
    let hosts: Hosts
    let roster: Roster
    let protection: Protection
    let moves: Moves
    let examination: Examination
    let forecaster: Forecaster
    let memoryCheck: MemoryCheck
    let dialing: Dialing
    let libvirt: LibvirtDesk
    let startPermissions: StartPermissions
    let keeping: Maintenance
    let arbiterWatch: ArbiterWatch
    let journal: EventJournal
    let registry: Registry
    let chronicle: Chronicle

    // MARK: - Looking

    func health() async throws(APIError) -> Health {
        let records = roster.refreshed()
        let peers = Dictionary(
            uniqueKeysWithValues: hosts.names.map { peer in
                (peer, records.contains { $0.peer == peer && ($0.state == .protected || $0.state == .syncing) })
            })
        return Health(
            node: node, started: started, peers: peers,
            processorSeconds: ProcessFiles.processorSeconds(of: getpid()))
    }

    func list() async throws(APIError) -> [VMStatus] { roster.refreshed().map { withArbiter($0.status()) } }

    func status(of vm: VMName) async throws(APIError) -> VMStatus {
        withArbiter(try roster.record(of: vm).status())
    }

    private func withArbiter(_ status: VMStatus) -> VMStatus {
        var status = status
        status.arbiter = arbiterWatch.report
        return status
    }

    /// What the last epochs cost, and what the model says of them.
    func epochs(of vm: VMName, limit: Int) async throws(APIError) -> EpochList {
        let timings = try roster.record(of: vm).recent.timings
        let model = EpochModel(learningFrom: timings)
        return EpochList(
            vm: vm,
            epochs: timings.suffix(limit).map { epoch in
                EpochRow(measured: EpochReport(epoch), model: model.map { EpochPrediction($0, epoch) })
            },
            model: model.map { ModelReport($0) })
    }

    func events(_ query: EventQuery, wait: Duration) async throws(APIError) -> [Event] {
        try await journal.events(query, wait: wait)
    }

    func explanation(of vm: VMName) async throws(APIError) -> Explanation {
        try await journal.explanation(of: vm, node: node)
    }

    func metrics() async throws(APIError) -> String {
        for record in roster.refreshed() {
            guard case .primary(let session) = record.part, let roundTrip = await session.roundTrip() else { continue }
            let (seconds, attoseconds) = roundTrip.components
            record.metrics.peerRTT.observe(
                nanoseconds: UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000))
        }
        return registry.text()
    }

    // MARK: - Asking beforehand

    func forecast(_ request: ForecastRequest) async throws(APIError) -> Forecast {
        try await forecaster.forecast(request)
    }

    func check(_ request: CheckRequest) async throws(APIError) -> CheckReport {
        try await examination.check(request)
    }

    func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String {
        try await examination.standbyCommand(request)
    }

    func libvirtDomains() async throws(APIError) -> [LibvirtDomain] { try await libvirt.domains() }

    func startPermission(of vm: VMName) async throws(APIError) -> StartPermission {
        await startPermissions.permission(of: vm)
    }

    // MARK: - Changing

    func prepareLibvirt(_ request: LibvirtPrepareRequest) async throws(APIError) -> LibvirtDomain {
        try await libvirt.prepare(request)
    }

    func allowStart(of vm: VMName) async throws(APIError) -> StartPermission { startPermissions.allow(vm) }

    func protect(_ request: ProtectRequest) async throws(APIError) -> VMStatus {
        try await protection.begin(request)
    }

    func tune(_ request: TuneRequest) async throws(APIError) -> VMStatus { try protection.tune(request) }

    func unprotect(_ request: UnprotectRequest) async throws(APIError) -> VMStatus {
        try await protection.end(request)
    }

    func verify(
        _ request: VerifyRequest, _ progress: @escaping @Sendable (Verification) -> Void
    ) async throws(APIError) -> Verification {
        try await memoryCheck.verify(request, progress)
    }

    func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus {
        try await moves.failover(request)
    }

    func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus {
        try await moves.switchover(request)
    }

    func dial(_ request: DialRequest) async throws(APIError) -> VMStatus { try await dialing.turn(request) }

    func rejoin(_ vm: VMName) async throws(APIError) -> VMStatus { try await dialing.rejoin(vm) }

    func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus { try await moves.decide(request) }

    func maintenance() async throws(APIError) -> MaintenanceStatus { keeping.status }

    func setMaintenance(_ request: MaintenanceRequest) async throws(APIError) -> MaintenanceStatus {
        do {
            try keeping.set(isOn: request.isOn, stay: request.stay ?? false)
        } catch {
            throw APIError(
                .failed, "that maintenance was turned \(request.isOn ? "on" : "off") cannot be kept: \(error)")
        }
        chronicle.note(nil, .request, "maintenance of \(node) was turned \(request.isOn ? "on" : "off")")
        return keeping.status
    }
}
