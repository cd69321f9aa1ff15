import Logging
import Pair
import RomulusAPI
import ServiceLifecycle

/// The agent as a service: listens for peers, serves the API, until it is told to stop.
public struct AgentProgram: Service {
    private let core: AgentCore
    private let log: Logger

    public init(configuration: Configuration, planted: PlantedFaults = [], log: Logger) throws {
        self.log = log
        core = try AgentCore(configuration: configuration, planted: planted, log: log)
    }

    public func run() async throws {
        let watchman = try Watchman(
            device: core.configuration.watchdog, serviceManager: .ofThisProcess, group: core.group, log: log)
        defer { watchman.stop(disarming: !core.hasGuests) }
        core.note(nil, .agent, "romulusd \(Romulus.version) was started at \(core.configuration.node)")
        defer {
            core.note(nil, .agent, "romulusd was stopped at \(core.configuration.node)")
            core.journal.close()
        }
        core.plant()
        core.recover()
        var listeners = [try await core.listen(at: core.configuration.listen)]
        log.info("\(core.configuration.node) listens for its peers on \(core.configuration.listen)")
        if let address = core.configuration.heartbeatListen { listeners.append(try await core.listen(at: address)) }
        for path in core.secondPaths.values { try path.start() }
        let maintenance = Task { [core] in await core.maintenance.run(for: core) }
        let arbiterWatch = Task { [core] in await core.watchArbiter() }
        let reconciler = Task { [core] in await core.reconciler.run(for: core) }
        try await APIServer(service: core, configuration: core.configuration, logger: log).run()
        maintenance.cancel()
        arbiterWatch.cancel()
        reconciler.cancel()
        for path in core.secondPaths.values { path.stop() }
        for listener in listeners { await listener.shutdown() }
    }
}
