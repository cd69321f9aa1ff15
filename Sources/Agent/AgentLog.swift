import Logging

/// The agent's log: lines on stderr, which systemd's journal takes.
public enum AgentLog {
    public static func make(level: Logger.Level) -> Logger {
        var log = Logger(label: "romulusd") { StreamLogHandler.standardError(label: $0) }
        log.logLevel = level
        return log
    }
}
