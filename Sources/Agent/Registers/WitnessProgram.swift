import Foundation
import Logging
import Model
import NIOPosix
import PKI
import Registers
import RomulusAPI
import ServiceLifecycle
import Telemetry
import Transport

/// `romulusd` as a witness: keeps the registers of other hosts' VMs, until it is told to stop. It runs no VM, needs no
/// QEMU and has no API.
public struct WitnessProgram: Service {
    private let configuration: Configuration
    private let listen: HostPort
    private let rights: [VMName: Set<NodeName>]
    private let identity: TLSIdentity
    private let log: Logger
    private let serviceManager: ServiceManager

    /// Nil when the configuration asks for no witness.
    public init?(
        configuration: Configuration, serviceManager: ServiceManager = .ofThisProcess, log: Logger
    ) throws(PKIError) {
        guard let witness = configuration.witness else { return nil }
        self.configuration = configuration
        self.serviceManager = serviceManager
        self.log = log
        listen = witness.listen
        rights = witness.rights
        identity = try configuration.loadIdentity()
    }

    /// Ends with an error when the store can no longer be written: a restart opens it anew, and checks it.
    public func run() async throws {
        let directory = configuration.stateDirectory + "/witness"
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let store = try WitnessStore(directory: directory)
        if store.tornBytes > 0 {
            log.notice(
                "an unfinished change at the end of the log (\(store.tornBytes) bytes) was never answered: dropped")
        }
        let registry = Registry()
        _ = AgentMetrics(version: Romulus.version, registry: registry)
        let metrics = WitnessMetrics(registry: registry)
        registry.beforeScrape {
            metrics.vms.set(store.vmCount)
            metrics.logBytes.set(store.logLength)
        }

        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let (failures, announce) = AsyncStream<WitnessStoreError>.makeStream()
        let server = try await WitnessServer.start(
            store: store, host: listen.host, port: listen.port, identity: identity,
            nodes: Set(configuration.peers.keys), rights: rights, group: group
        ) { [log] report in
            metrics.count(report)
            report.write(to: log)
            if case .failed(let error) = report, error != .full { announce.yield(error) }
        }
        log.info(
            "\(configuration.node) is a witness for \(configuration.peers.keys.sorted().map(\.description).joined(separator: ", ")) on \(listen): \(store.vmCount) VMs, store \(store.identity)"
        )
        let watchman = try Watchman(device: nil, serviceManager: serviceManager, group: group, log: log)
        defer { watchman.stop(disarming: true) }
        serviceManager.ready()
        defer { serviceManager.stopping() }
        let outcome = await untilStopped(failures, registry)
        await server.shutdown()
        try await group.shutdownGracefully()
        try outcome.get()
    }

    /// Until a graceful shutdown, a failure of the store or one of the metrics' door.
    private func untilStopped(
        _ failures: AsyncStream<WitnessStoreError>, _ registry: Registry
    ) async -> Result<Void, any Error> {
        await withTaskGroup(of: Result<Void, any Error>.self) { group in
            group.addTask {
                for await failure in failures { return .failure(failure) }
                return .success(())
            }
            group.addTask {
                // Throws only when the task is cancelled, which ends it as well.
                try? await gracefulShutdown()
                return .success(())
            }
            if let place = configuration.metricsListen {
                let metrics = MetricsServer(listen: place, text: { registry.text() }, logger: log) { _ in }
                group.addTask {
                    do {
                        try await metrics.run()
                        return .success(())
                    } catch is CancellationError {
                        return .success(())
                    } catch {
                        return .failure(error)
                    }
                }
            }
            let first = await group.next() ?? .success(())
            group.cancelAll()
            return first
        }
    }
}

extension WitnessServer.Report {
    fileprivate func write(to log: Logger) {
        switch self {
        case .refused(let error): log.warning("a connection was refused: \(error)")
        case .read(let vm, let node): log.debug("\(node) read \(vm)")
        case .changed(let vm, let register, let node):
            log.info(
                "\(vm) is at term \(register.term), \(register.mode.rawValue), owner \(register.owner): asked by \(node)"
            )
        case .conflict(let vm, let node): log.info("a claim of \(node) to \(vm) came too late")
        case .amnesic(let vm, let node, let seen, let found):
            log.error(
                "\(node) saw term \(seen) of \(vm) here and this store has term \(found): it lost changes, and \(node) does not use it"
            )
        case .failed(let error): log.error("\(error)")
        case .denied(let vm, let node): log.warning("\(node) asked about \(vm), which is none of its VMs")
        }
    }
}

extension WitnessMetrics {
    fileprivate func count(_ report: WitnessServer.Report) {
        switch report {
        case .refused: refusedLinks.add()
        case .read: reads.add()
        case .changed: changes.add()
        case .conflict: conflicts.add()
        case .amnesic: amnesic.add()
        case .failed: failed.add()
        case .denied: denied.add()
        }
    }
}
