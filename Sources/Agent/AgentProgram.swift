import Foundation
import Glibc
import Journal
import Leases
import LinuxSystem
import Logging
import Memory
import Model
import NIOCore
import NIOPosix
import Pair
import QEMU
import Registers
import RomulusAPI
import ServiceLifecycle
import Telemetry
import Transport

/// The agent as a service: makes its parts, listens for peers, takes up what an earlier run left, serves the API, until it
/// is told to stop.
public struct AgentProgram: Service {
    private let configuration: Configuration
    private let planted: PlantedFaults
    private let log: Logger
    private let group: MultiThreadedEventLoopGroup
    private let registry = Registry()
    private let journal: EventJournal
    private let hosts: Hosts
    private let roster: Roster
    private let chronicle: Chronicle
    private let reception: Reception
    private let recovery: Recovery
    private let maintenance: Maintenance
    private let arbiterWatch: ArbiterWatch
    private let reconciler: Reconciler
    private let desk: Desk

    /// What encrypts, and so what the connections of a link are spread over. Idle ones cost nothing.
    private static let eventLoops = max(2, min(System.coreCount / 2, LinkDialer.connectionsMax))

    /// `planted` is for the tests' own build of the agent.
    public init(configuration: Configuration, planted: PlantedFaults = [], log: Logger) throws {
        self.configuration = configuration
        self.planted = planted
        self.log = log
        let identity = try configuration.loadIdentity()
        group = MultiThreadedEventLoopGroup(numberOfThreads: Self.eventLoops)
        try Self.makeDirectories(configuration)

        // What is kept.
        let bases = MemoryBases(
            in: configuration.memoryDirectory, minutes: configuration.defaults.keepMemoryMinutes, log: log)
        let store = try VMStore("\(configuration.stateDirectory)/vms")
        let wishes = try MaintenanceMemory(stateDirectory: configuration.stateDirectory)
        let arbiter = try configuration.makeArbiter(identity: identity, group: group).map { WatchedArbiter($0) }
        let processorSleep = configuration.defaults.isAwake ? Self.makeProcessorSleep(log) : nil
        journal = EventJournal(path: "\(configuration.stateDirectory)/journal.sqlite", limits: configuration.journal) {
            log.error("\($0)")
        }
        _ = AgentMetrics(version: Romulus.version, keptMemory: { bases.bytes }, registry: registry)

        // What is known.
        let pursuits = Pursuits()
        roster = Roster(node: configuration.node, registry: registry) { vm in
            configuration.wanted(vm, store[vm].word) == nil ? DesiredReport(protect: .manual) : pursuits.report(vm)
        }
        chronicle = Chronicle(log: log, journal: journal, roster: roster)
        let words = Words(configuration: configuration, store: store, roster: roster, chronicle: chronicle)
        hosts = Hosts(
            node: identity.node, identity: identity, group: group, detection: configuration.detection,
            registry: registry, chronicle: chronicle)
        for (name, settings) in configuration.peers { try hosts.add(name, settings) }

        // What is done.
        let drivers = Self.drivers(configuration, bases, roster, log)
        let leases = try arbiter.map { try Leases(node: identity.node, arbiter: $0, log: log) }
        let guests = HeldGuests(store: store, bases: bases, roster: roster, words: words, chronicle: chronicle)
        let reporter = Reporter(roster: roster, pursuits: pursuits, guests: guests, chronicle: chronicle)
        let sessions = Sessions(
            configuration: configuration, hosts: hosts, roster: roster, store: store, arbiter: arbiter, leases: leases,
            bases: bases, drivers: drivers, reporter: reporter, processorSleep: processorSleep, planted: planted)
        reception = Reception(
            hosts: hosts, roster: roster, words: words, sessions: sessions,
            testimony: Testimony(node: identity.node, hasArbiter: arbiter != nil, store: store, roster: roster),
            maintenance: wishes, drivers: drivers, chronicle: chronicle)
        recovery = Recovery(
            configuration: configuration, hasArbiter: arbiter != nil, store: store, roster: roster,
            sessions: sessions, guests: guests, bases: bases, drivers: drivers, chronicle: chronicle)
        maintenance = Maintenance(wishes, node: configuration.node, chronicle: chronicle)
        arbiterWatch = ArbiterWatch(arbiter, chronicle: chronicle)
        reconciler = Reconciler(
            words: words, pursuits: pursuits, hosts: hosts, sessions: sessions, maintenance: wishes,
            guests: drivers.guests)

        // What is asked.
        desk = Desk(
            node: configuration.node, hosts: hosts, roster: roster,
            protection: Protection(
                configuration: configuration, finder: drivers.finder, hosts: hosts, roster: roster, words: words,
                pursuits: pursuits, sessions: sessions, bases: bases, chronicle: chronicle),
            moves: Moves(
                node: hosts.node, hasArbiter: arbiter != nil, roster: roster, journal: journal, chronicle: chronicle),
            examination: Examination(configuration: configuration, hosts: hosts, roster: roster, drivers: drivers),
            forecaster: Forecaster(
                configuration: configuration, hosts: hosts, roster: roster, store: store, drivers: drivers,
                processorSleep: processorSleep),
            memoryCheck: MemoryCheck(node: configuration.node, roster: roster, chronicle: chronicle),
            dialing: Dialing(hasArbiter: arbiter != nil, words: words), libvirt: LibvirtDesk(configuration, roster),
            startPermissions: StartPermissions(hosts.node, arbiter, roster, store, chronicle), keeping: maintenance,
            arbiterWatch: arbiterWatch, journal: journal, registry: registry, chronicle: chronicle)
    }

    private static func drivers(
        _ configuration: Configuration, _ bases: MemoryBases, _ roster: Roster, _ log: Logger
    ) -> Drivers {
        Drivers(
            guests: QEMUGuests(), standbys: QEMUStandbys(), configuration: configuration, bases: bases,
            starts: { roster.startRoom }, log: log)
    }

    private static func makeDirectories(_ configuration: Configuration) throws {
        for (directory, mode) in [
            (configuration.stateDirectory, 0o750), (configuration.runtimeDirectory, 0o755),
            (configuration.memoryDirectory, 0o700),
        ] {
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
        }
    }

    private static func makeProcessorSleep(_ log: Logger) -> ProcessorSleep? {
        do throws(SystemError) {
            return try ProcessorSleep()
        } catch {
            log.notice("processors may sleep during checkpoints, which take longer then: \(error)")
            return nil
        }
    }

    public func run() async throws {
        let watchman = try Watchman(
            device: configuration.watchdog, serviceManager: .ofThisProcess, group: group, log: log)
        defer { watchman.stop(disarming: !roster.hasGuests) }
        chronicle.note(nil, .agent, "romulusd \(Romulus.version) was started at \(configuration.node)")
        defer {
            chronicle.note(nil, .agent, "romulusd was stopped at \(configuration.node)")
            journal.close()
        }
        if planted.contains(.blockEventLoop) {
            group.next().scheduleTask(in: .seconds(2)) { while true { sleep(1) } }
        }
        let taps = TapSweep(chronicle: chronicle)
        taps.look()
        recovery.run()
        var listeners = [try await reception.listen(at: configuration.listen)]
        log.info("\(configuration.node) listens for its peers on \(configuration.listen)")
        if let address = configuration.heartbeatListen { listeners.append(try await reception.listen(at: address)) }
        try hosts.start()
        let upkeep = [
            Task { [maintenance] in await maintenance.run() },
            Task { [arbiterWatch, registry] in await arbiterWatch.run(registry) },
            Task { [reconciler] in await reconciler.run() },
            Task { await taps.run() },
            Task { [reception, chronicle, registry] in
                await RoomWatch(drivers: reception.drivers, chronicle: chronicle).run(registry)
            },
        ]
        try await APIServer(service: desk, configuration: configuration, logger: log).run()
        for task in upkeep { task.cancel() }
        hosts.stop()
        for listener in listeners { await listener.shutdown() }
    }
}
