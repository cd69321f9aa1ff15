/// This host's own watchdog.
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
}
