import Fencing

/// Fence commands of peers, and this host's own watchdog.
extension Configuration {
    /// The hardware watchdog that resets this host when its agent does not answer for itself any more.
    public struct Watchdog: Sendable, Equatable {
        public var device: String
        public var timeoutSeconds: Int

        public init(device: String, timeoutSeconds: Int = 10) {
            self.device = device
            self.timeoutSeconds = timeoutSeconds
        }
    }

    /// The fence command in a peer's section; nil when there is none, or a problem was noted.
    static func readFence(_ peer: inout ConfigurationReader) -> FenceCommand? {
        guard peer.isPresent("fence") else { return nil }
        var section = peer.section("fence")
        defer { section.finish() }
        let expected = "a list: the absolute path of a program, and its arguments"
        let isPresent = section.isPresent("command")
        let words = section.list("command", expected) { $0 }
        let timeout = section.integer("timeout_ms", 100...600_000, default: 20_000)
        let delay = section.isPresent("delay_ms") ? section.integer("delay_ms", 0...600_000, default: 0) : nil
        guard let program = words.first, ConfigurationReader.absolutePath(program) != nil else {
            section.problems.add(
                section.line,
                "“\(section.path("command"))” \(isPresent ? "must be" : "is missing: it must be") \(expected)")
            return nil
        }
        return FenceCommand(command: words, timeoutMilliseconds: timeout, delayMilliseconds: delay)
    }

    static func readWatchdog(_ top: inout ConfigurationReader) -> Watchdog? {
        let isPresent = top.isPresent("watchdog")
        var section = top.section("watchdog")
        defer { section.finish() }
        guard isPresent else { return nil }
        let device = section.required(
            "device", "the absolute path of a watchdog device, such as /dev/watchdog", ConfigurationReader.absolutePath)
        let timeout = section.integer("timeout_s", 4...300, default: 10)
        return device.map { Watchdog(device: $0, timeoutSeconds: timeout) }
    }
}
