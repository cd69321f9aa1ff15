import Hummingbird
import Logging

/// `/metrics` alone, on TCP.
struct MetricsServer: Sendable {
    let listen: HostPort
    let text: @Sendable () async throws -> String
    let logger: Logger
    /// Called once, when the door is open, with its port.
    let onOpen: @Sendable (Int?) -> Void

    /// Until the task is cancelled or a graceful shutdown is asked for.
    func run() async throws {
        let application = Application(
            router: Routes.metricsOnly(text),
            configuration: ApplicationConfiguration(
                address: .hostname(listen.host, port: listen.port), serverName: "romulusd"),
            onServerRunning: { channel in
                logger.info("metrics are served at http://\(listen)/metrics")
                onOpen(channel.localAddress?.port)
            },
            logger: logger.quiet)
        do {
            try await application.run()
        } catch let error where !(error is CancellationError) {
            throw APIServerError(place: listen.description, reason: "\(error)")
        }
    }
}

extension Logger {
    /// For a server whose own chatter is for those who debug it.
    var quiet: Logger {
        var logger = self
        if logger.logLevel > .trace { logger.logLevel = max(logger.logLevel, .warning) }
        return logger
    }
}
