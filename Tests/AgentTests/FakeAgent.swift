import Agent
import Foundation
import Journal
import Literals
import Logging
import Model
import RomulusAPI
import ServiceLifecycle
import Synchronization

/// An agent without VMs behind the real server: it answers from a table and remembers what it was asked.
final class FakeAgent: AgentService {
    struct State {
        var vms: [VMName: VMStatus] = [:]
        var asked: [String] = []
        /// Statuses that `status(of:)` gives one after the other before it stays with the last.
        var script: [VMStatus] = []
        /// Whether the script's last status is given once only, and the VM is unknown after that.
        var scriptEnds = false
        /// Called at each question for events.
        var onEvents: @Sendable () -> Void = {}
        var isInMaintenance = false
        var epochs: [VMName: EpochList] = [:]
        /// What `verify` answers; nil: it goes on until it is called off.
        var verification: Verification?
        /// `health` answers when this ends.
        var gate: AsyncStream<Never>?
    }

    let log: EventJournal
    private let state = Mutex(State())

    init(log: EventJournal) {
        self.log = log
    }

    func with<Value: Sendable>(_ body: (inout State) -> Value) -> Value {
        state.withLock { body(&$0) }
    }

    var asked: [String] { with { $0.asked } }

    static func vm(_ text: String, _ state: ProtectionState = .protected) -> VMStatus {
        VMStatus(
            name: VMName(text)!, role: .primary, state: state, since: Date(timeIntervalSince1970: 1_767_268_800),
            level: .system, peer: "beta", term: 1, epoch: 5, epochMilliseconds: 20)
    }

    private func note(_ text: String) {
        with { $0.asked.append(text) }
    }

    private func find(_ vm: VMName) throws(APIError) -> VMStatus {
        if let status = with({ $0.vms[vm] }) { return status }
        throw APIError(.noSuchVM, "there is no VM “\(vm)” here; see “romulus list”")
    }

    func health() async throws(APIError) -> Health {
        if let gate = with({ $0.gate }) { for await _ in gate {} }
        return Health(node: "alpha", started: Date(timeIntervalSince1970: 0), peers: ["beta": true])
    }

    func list() async throws(APIError) -> [VMStatus] { with { Array($0.vms.values) } }

    func status(of vm: VMName) async throws(APIError) -> VMStatus {
        let scripted: VMStatus? = with { state in
            guard state.script.count > (state.scriptEnds ? 0 : 1) else { return state.script.first }
            return state.script.removeFirst()
        }
        if let gate = with({ $0.gate }) { for await _ in gate {} }
        if let scripted { return scripted }
        return try find(vm)
    }

    func epochs(of vm: VMName, limit: Int) async throws(APIError) -> EpochList {
        _ = try find(vm)
        var list = with { $0.epochs[vm] } ?? EpochList(vm: vm, epochs: [], model: nil)
        list.epochs = list.epochs.suffix(limit)
        return list
    }

    func check(_ request: CheckRequest) async throws(APIError) -> CheckReport {
        note("check \(request.vm) qmp=\(request.qmp ?? "-") standby=\(request.standby ?? "-")")
        guard request.standby == "beta" else {
            return CheckReport(vm: request.vm, standby: nil, problems: [], notes: [])
        }
        return CheckReport(
            vm: request.vm, standby: "beta",
            problems: [
                CheckReport.Finding(host: "alpha", text: "NIC n0 has 2 queues"),
                CheckReport.Finding(host: "beta", text: "no image"),
            ], notes: [CheckReport.Finding(host: "beta", text: "no tap")])
    }

    func forecast(_ request: ForecastRequest) async throws(APIError) -> Forecast {
        note(
            "forecast \(request.vm) qmp=\(request.qmp ?? "-") standby=\(request.standby ?? "-")"
                + " seconds=\(request.seconds.map { "\($0)" } ?? "-") pause=\(request.pause.map(String.init) ?? "-")"
                + " link=\(request.linkMegabits.map { "\($0)" } ?? "-")"
                + " clients=\(request.clients.map(String.init) ?? "-")"
                + " round_trips=\(request.roundTrips.map(String.init) ?? "-")")
        if with({ $0.vms[request.vm] }) != nil {
            throw APIError(
                .refused, "\(request.vm) is protected here: “romulus top \(request.vm)” tells what that costs")
        }
        let model = ModelReport(
            fixed: 1, save: 1, scan: 1, scanPage: 1, copy: 1, copyPage: 1, encode: 1, encodePage: 1, linkBytes: 1,
            linkBytesPage: 1, transfer: 1, transferKiB: 1)
        return Forecast(
            vm: request.vm, level: .system, seconds: request.seconds ?? 10, hasPauses: request.pause ?? true, link: nil,
            epochs: [], deviceStateBytes: 1, diskBytesPerSecond: 0, agentMemoryBytes: 1, agentMemoryBytesMax: 2,
            standbyMemoryBytes: 3, model: model, requests: nil, advice: "Nothing was watched.",
            advisedEpochMilliseconds: nil)
    }

    func verify(
        _ request: VerifyRequest, _ progress: @escaping @Sendable (Verification) -> Void
    ) async throws(APIError) -> Verification {
        note("verify \(request.vm)")
        guard try find(request.vm).state == .protected else {
            throw APIError(.refused, "\(request.vm) is not protected: protect it first")
        }
        guard let verification = with({ $0.verification }) else {
            progress(Self.verification(over: false))
            // Until it is called off.
            try? await Task.sleep(for: .seconds(60))
            note("called off")
            throw APIError(.refused, "it was called off")
        }
        return verification
    }

    static func verification(over: Bool = true, differing: Int = 0) -> Verification {
        Verification(
            vm: VMName("web")!, peer: "beta", isOver: over, pages: 1000, compared: 990, equal: 990 - differing,
            differing: differing, mended: 0, discarded: 3, hot: 7, leftOut: 64, epochs: 12, firstEpoch: 100,
            lastEpoch: 140, seconds: 1.25,
            differences: (0..<min(differing, 100)).map {
                Verification.Difference(block: "pc.ram", page: UInt32($0 + 5))
            })
    }

    func protect(_ request: ProtectRequest) async throws(APIError) -> VMStatus {
        note(
            "protect \(request.vm) qmp=\(request.qmp ?? "-") standby=\(request.standby ?? "-") "
                + (request.manager.map { "manager=\($0.rawValue) " } ?? "")
                + "level=\(request.level?.rawValue ?? "-") epoch=\(request.epochMilliseconds.map(String.init) ?? "-")")
        if request.standby == "nobody" { throw APIError(.noSuchPeer, "there is no peer “nobody”; the peers are beta") }
        if request.vm.description == "vhost" {
            throw APIError(.refused, "net0 of vhost uses vhost: restart it with vhost=off")
        }
        let status = Self.vm(request.vm.description, .connecting)
        with { $0.vms[request.vm] = status }
        return status
    }

    func tune(_ request: TuneRequest) async throws(APIError) -> VMStatus {
        let tuning = request.applied(to: EpochTuning(epochMilliseconds: 20))
        note("tune \(request.vm): \(tuning)")
        return try find(request.vm)
    }

    func unprotect(_ request: UnprotectRequest) async throws(APIError) -> VMStatus {
        note("unprotect \(request.vm)")
        var status = try find(request.vm)
        status.state = .unprotected
        return status
    }

    func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus {
        note("switchover \(request.vm) wait=\(request.waitMilliseconds.map(String.init) ?? "-")")
        return try find(request.vm)
    }

    func dial(_ request: DialRequest) async throws(APIError) -> VMStatus {
        note("dial \(request.vm) \(request.level.rawValue) wait=\(request.waitMilliseconds.map(String.init) ?? "-")")
        return try find(request.vm)
    }

    func rejoin(_ vm: VMName) async throws(APIError) -> VMStatus {
        note("rejoin \(vm)")
        return try find(vm)
    }

    func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus {
        note("decide \(request.vm) \(request.decision.rawValue)")
        return try find(request.vm)
    }

    func maintenance() async throws(APIError) -> MaintenanceStatus {
        let vm = MaintenanceStatus.VM(name: VMName("web")!, stays: true, reason: "runs here without a standby")
        return MaintenanceStatus(
            node: "alpha", state: with { $0.isInMaintenance ? .empty : .off }, vms: [vm], moved: [])
    }

    func setMaintenance(_ request: MaintenanceRequest) async throws(APIError) -> MaintenanceStatus {
        note("maintenance \(request.isOn ? "on" : "off") stay=\(request.stay.map(String.init) ?? "-")")
        with { $0.isInMaintenance = request.isOn }
        return try await maintenance()
    }

    func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus {
        note("failover \(request.vm) force=\(request.force)")
        var status = try find(request.vm)
        status.state = .failingOver
        return status
    }

    func events(_ query: EventQuery, wait: Duration) async throws(APIError) -> [Event] {
        with { $0.onEvents }()
        return try await log.events(query, wait: wait)
    }

    func explanation(of vm: VMName) async throws(APIError) -> Explanation {
        try await log.explanation(of: vm, node: "alpha")
    }

    func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String {
        note("standby-command vm=\(request.vm?.description ?? "-") qmp=\(request.qmp ?? "-")")
        if let vm = request.vm { _ = try find(vm) }
        return "qemu-system-x86_64 \\\n    -incoming defer"
    }

    func libvirtDomains() async throws(APIError) -> [LibvirtDomain] {
        [
            LibvirtDomain(
                name: "web", uuid: "8d0b7a86-7f07-4d2e-9a55-c5f2a8e9f001", isRunning: true, isPersistent: true,
                autostarts: true, monitor: nil, monitorOfNextStart: "/run/web.qmp", state: nil)
        ]
    }

    func prepareLibvirt(_ request: LibvirtPrepareRequest) async throws(APIError) -> LibvirtDomain {
        note("libvirt prepare \(request.domain) undo=\(request.undo ?? false)")
        guard let domain = try await libvirtDomains().first, request.domain == domain.name else {
            throw APIError(.noSuchVM, "no domain \(request.domain)")
        }
        return domain
    }

    func startPermission(of vm: VMName) async throws(APIError) -> StartPermission {
        note("start-permission \(vm)")
        return StartPermission(vm: vm, isAllowed: vm.description != "web", reason: "\(vm) was asked about")
    }

    func allowStart(of vm: VMName) async throws(APIError) -> StartPermission {
        note("allow-start \(vm)")
        return StartPermission(vm: vm, isAllowed: true, reason: "the operator said so")
    }

    func metrics() async throws(APIError) -> String { "# HELP x X.\n# TYPE x gauge\nx 1\n" }
}

/// The real server in front of a `FakeAgent`, on a socket of its own, for as long as `body` runs.
func withServer<Value: Sendable>(
    metrics: HostPort? = nil, group: String? = nil, notify: String? = nil, complaints: Complaints = Complaints(),
    _ body: @Sendable (_ agent: FakeAgent, _ socket: String, _ metricsPort: Int?) async throws -> Value
) async throws -> Value {
    let directory = "/tmp/romulus-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let log = Logger(label: "test") { _ in complaints }
    let journal = EventJournal(path: directory + "/journal.sqlite") { log.error("\($0)") }
    defer { journal.close() }
    let agent = FakeAgent(log: journal)
    let socket = directory + "/romulusd.sock"
    let (ready, announce) = AsyncStream<Int?>.makeStream()
    let server = APIServer(
        service: agent, socket: socket, group: group, metricsListen: metrics,
        serviceManager: ServiceManager(socketPath: notify),
        logger: Logger(label: "test") { _ in complaints }
    ) { port in
        announce.yield(port)
        announce.finish()
    }
    let services = ServiceGroup(
        services: [server], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    return try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask {
            defer { announce.finish() }
            try await services.run()
            return nil
        }
        guard let port = await ready.first(where: { _ in true }) else {
            // The server gave up before it was ready: its task says why.
            _ = try await group.next()
            throw CancellationError()
        }
        let value: Value
        do {
            value = try await body(agent, socket, port)
        } catch {
            await services.triggerGracefulShutdown()
            throw error
        }
        await services.triggerGracefulShutdown()
        try await group.waitForAll()
        return value
    }
}

/// Runs blocking calls away from the tasks' threads: the server that they wait for needs those.
func onOwnThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
}

/// Remembers what the server logs as a warning or worse.
struct Complaints: LogHandler {
    final class Store: Sendable {
        let lines = Mutex<[String]>([])
    }

    private let store = Store()
    var logLevel = Logger.Level.warning
    var metadata: Logger.Metadata = [:]

    var lines: [String] { store.lines.withLock { $0 } }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        store.lines.withLock { $0.append("\(event.level): \(event.message)") }
    }
}
