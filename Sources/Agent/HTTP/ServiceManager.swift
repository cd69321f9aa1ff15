import Glibc

/// Whoever started this process, if it wants to hear how it goes (systemd's `Type=notify`): one datagram each to the
/// socket that $NOTIFY_SOCKET names, sd_notify(3).
public struct ServiceManager: Sendable {
    private let socketPath: String?
    /// Within which time it wants to hear `pet`, again and again, in nanoseconds; nil when it does not.
    public let watchdogNanoseconds: UInt64?

    public static var ofThisProcess: ServiceManager {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        // sd_watchdog_enabled(3): what is meant for another process is none of ours.
        let isMeant = variable("WATCHDOG_PID").map { $0 == "\(getpid())" } ?? true
        let period = isMeant ? variable("WATCHDOG_USEC").flatMap { UInt64($0) } : nil
        return ServiceManager(
            socketPath: variable("NOTIFY_SOCKET"),
            watchdogNanoseconds: period.flatMap { $0 > 0 && $0 < 1 << 40 ? $0 * 1000 : nil })
    }

    /// Nil when nobody wants to hear.
    public init(socketPath: String?, watchdogNanoseconds: UInt64? = nil) {
        self.socketPath = socketPath
        self.watchdogNanoseconds = socketPath == nil ? nil : watchdogNanoseconds
    }

    public func ready() { tell("READY=1") }
    public func stopping() { tell("STOPPING=1") }
    public func pet() { tell("WATCHDOG=1") }

    private func tell(_ message: String) {
        guard let socketPath else { return }
        var path = Array(socketPath.utf8)
        // A name that starts with @ is in the abstract namespace, where the first byte is zero.
        if path.first == UInt8(ascii: "@") { path[0] = 0 }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard !path.isEmpty, path.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let offset = MemoryLayout<sockaddr_un>.size - MemoryLayout.size(ofValue: address.sun_path)
        let length = socklen_t(offset + path.count)
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let bytes = Array(message.utf8)
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT), $0, length)
            }
        }
    }
}
