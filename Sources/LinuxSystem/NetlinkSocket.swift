import CLinux
import Glibc

/// A socket to the kernel itself, of one netlink protocol (`NETLINK_NETFILTER`…), in the network namespace in which it
/// was opened. The kernel works a request off before `send` returns, so its answers wait by then.
public struct NetlinkSocket: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    public init(protocol number: Int32) throws(SystemError) {
        descriptor = OwnedDescriptor(owning: try checked(rml_netlink(number), "open", "a netlink socket"))
    }

    /// Sends one datagram: a message, or a whole batch of them.
    public func send(_ bytes: [UInt8]) throws(SystemError) {
        let number = descriptor.number
        let sent = try checked(
            retrying { rml_send(number, bytes, bytes.count, nil, 0) }, "send \(bytes.count) bytes over",
            "a netlink socket")
        guard sent == bytes.count else {
            throw SystemError(operation: "send \(bytes.count) bytes over", errno: EMSGSIZE, subject: "a netlink socket")
        }
    }

    /// The next datagram, nil when none waits. One that is longer than 64 KiB is cut off there; the kernel makes none.
    public func receive() throws(SystemError) -> [UInt8]? {
        do throws(SystemError) {
            var buffer = [UInt8](repeating: 0, count: 65536)
            var count = 0
            var failure: SystemError?
            buffer.withUnsafeMutableBytes { bytes in
                do throws(SystemError) { count = try descriptor.read(into: bytes) } catch { failure = error }
            }
            if let failure { throw failure }
            return Array(buffer[..<count])
        } catch {
            if error.isWouldBlock { return nil }
            throw error
        }
    }
}
