import CLinux
import Glibc

/// Wakes a thread of its own whenever the kernel tells of a change of some network device, in the network namespace in which
/// it was made, until it is let go of.
public final class LinkWatch: Sendable {
    private let stop: SharedEvent

    /// In nanoseconds.
    private static let retry: UInt64 = 100_000_000
    /// NETLINK_ROUTE.
    private static let route: Int32 = 0
    /// `struct sockaddr_nl` (netlink(7)), in 32-bit words: the family AF_NETLINK, a number that the kernel gives, and the groups,
    /// of which RTMGRP_LINK is the first; the fourth makes it as long as a `sockaddr`. The kernel tells a socket without a number
    /// nothing, so it is bound.
    private static let address: [UInt32] = [UInt32(AF_NETLINK), 0, 1, 0]

    /// `look` is called on that thread, which stays in the namespace: whatever a message says, what is looked at is how things
    /// are now. A message that was lost for want of room leads to a look as well. It returns false to be called again soon.
    ///
    /// - Parameter name: of the thread.
    public init(_ name: String, _ look: @escaping @Sendable () -> Bool) throws(SystemError) {
        let number = rml_netlink(Self.route)
        guard number >= 0 else { throw SystemError(operation: "open", errno: -number, subject: "a netlink socket") }
        let socket = OwnedDescriptor(owning: number)
        let bound = Self.address.withUnsafeBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { bind(socket.number, $0.baseAddress, socklen_t(bytes.count)) }
        }
        guard bound == 0 else {
            throw SystemError(operation: "listen to", errno: errno, subject: "changes of network devices")
        }
        let stop = try SharedEvent()
        self.stop = stop
        _ = try NamedThread.start(name, handing: socket) { socket in
            Self.run(socket, stop, look)
        }
    }

    deinit { stop.signal() }

    private static func run(_ socket: consuming OwnedDescriptor, _ stop: SharedEvent, _ look: () -> Bool) {
        var poller = Poller(capacity: 2)
        let stopIndex = poller.add(stop.number)
        _ = poller.add(socket.number)
        var buffer = [UInt8](repeating: 0, count: 32_768)
        var isSettled = true
        while true {
            guard (try? poller.wait(timeout: isSettled ? nil : Self.retry)) != nil else { return }
            if poller.isReadable(stopIndex) { return }
            // All that waits is taken first: what comes after the look leads to another one.
            while recv(socket.number, &buffer, buffer.count, Int32(MSG_DONTWAIT)) > 0 || errno == ENOBUFS {}
            isSettled = look()
        }
    }
}
