import Glibc
import Hummingbird
import Logging
import RomulusAPI
import ServiceLifecycle
import Synchronization

/// The agent's two doors: the API on a unix socket, for whoever may open that file, and, where it is asked for,
/// `/metrics` alone on TCP.
///
/// `HTTP/` owns the sockets, the paths and the translation between JSON and an `AgentService`; it knows nothing of VMs.
/// It runs until its task is cancelled or a graceful shutdown is asked for, and then ends open streams. When all doors
/// are open it tells the service manager so.
public struct APIServer: Service {
    let service: any AgentService
    let socket: String
    let group: String?
    let metricsListen: HostPort?
    let serviceManager: ServiceManager
    let logger: Logger
    let onReady: @Sendable (_ metricsPort: Int?) async -> Void

    /// `onReady` is called once, when all doors are open, with the port of the metrics listener if there is one.
    public init(
        service: any AgentService, socket: String, group: String? = nil, metricsListen: HostPort? = nil,
        serviceManager: ServiceManager = .ofThisProcess, logger: Logger,
        onReady: @escaping @Sendable (_ metricsPort: Int?) async -> Void = { _ in }
    ) {
        self.service = service
        self.socket = socket
        self.group = group
        self.metricsListen = metricsListen
        self.serviceManager = serviceManager
        self.logger = logger
        self.onReady = onReady
    }

    /// The server that a configuration asks for.
    public init(
        service: any AgentService, configuration: Configuration, logger: Logger,
        onReady: @escaping @Sendable (_ metricsPort: Int?) async -> Void = { _ in }
    ) {
        self.init(
            service: service, socket: configuration.api.socket, group: configuration.api.group,
            metricsListen: configuration.metricsListen, logger: logger, onReady: onReady)
    }

    public func run() async throws {
        let door = try SocketDoor(path: socket, group: group)
        defer {
            serviceManager.stopping()
            door.remove()
        }
        // Set once by the metrics application before the API application starts, so that `onReady` knows the port.
        let port = Mutex<Int?>(nil)
        let (metricsOpen, openMetrics) = AsyncStream<Never>.makeStream()
        let api = Application(
            router: Routes(service: service).api(),
            configuration: ApplicationConfiguration(
                address: .unixDomainSocket(path: socket), serverName: "romulusd"),
            onServerRunning: { _ in
                if let problem = door.open() { logger.error("\(problem)") }
                logger.info("API listens on \(socket)")
                serviceManager.ready()
                await onReady(port.withLock { $0 })
            },
            logger: logger.quiet)
        try await withThrowingTaskGroup(of: Void.self) { group in
            if let metricsListen {
                let metrics = MetricsServer(
                    listen: metricsListen, text: { [service] in try await service.metrics() }, logger: logger
                ) { opened in
                    port.withLock { $0 = opened }
                    openMetrics.finish()
                }
                group.addTask { try await metrics.run() }
            } else {
                openMetrics.finish()
            }
            group.addTask {
                for await _ in metricsOpen {}
                try Task.checkCancellation()
                do {
                    try await api.run()
                } catch let error where !(error is CancellationError) {
                    throw APIServerError(place: socket, reason: "\(error)")
                }
            }
            // Both end by themselves at a shutdown. An error of one ends the other: an agent that cannot be asked, or not
            // be watched, is reported.
            while try await group.next() != nil {}
        }
    }
}

/// A door that could not be opened.
public struct APIServerError: Error, CustomStringConvertible, Sendable {
    /// The socket path or the TCP address.
    public let place: String
    public let reason: String

    public var description: String { "cannot listen on \(place): \(reason)" }
}
