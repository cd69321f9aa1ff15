import CLinux
import Glibc

/// Unix stream sockets, with descriptors passed along.
public enum LocalSocket {
    /// Who is at the other end, as of when the connection was made.
    public struct Peer: Hashable, Sendable {
        public var pid: pid_t
        public var user: uid_t
        public var group: gid_t
    }

    /// At most this many descriptors travel with one message.
    public static let descriptorsMax = Int(RML_DESCRIPTORS_MAX)

    public static func connect(to path: String) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked(rml_unix_connect(path), "connect to", path))
    }

    /// Listens at a path that must not exist yet.
    public static func listen(at path: String, backlog: Int32 = 16) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked(rml_unix_listen(path, backlog), "listen at", path))
    }

    public static func accept(_ listener: borrowing OwnedDescriptor) throws(SystemError) -> OwnedDescriptor {
        let number = listener.number
        return OwnedDescriptor(
            owning: try checked(retrying { rml_accept(number) }, "accept a connection on", "descriptor \(number)"))
    }

    /// Sends bytes with descriptors attached to the first of them; returns how many bytes went. The descriptors stay open
    /// here. `bytes` must not be empty when descriptors are passed.
    public static func send(
        _ bytes: UnsafeRawBufferPointer, descriptors: [Int32] = [], over socket: borrowing OwnedDescriptor
    ) throws(SystemError) -> Int {
        let number = socket.number
        return try checked(
            retrying { rml_send(number, bytes.baseAddress, bytes.count, descriptors, Int32(descriptors.count)) },
            "send over", "descriptor \(number)")
    }

    /// Receives bytes and the descriptors that came with them, which the caller owns; 0 bytes is the end.
    public static func receive(
        into buffer: UnsafeMutableRawBufferPointer, descriptors: inout [Int32],
        from socket: borrowing OwnedDescriptor
    ) throws(SystemError) -> Int {
        let number = socket.number
        var numbers = [Int32](repeating: -1, count: descriptorsMax)
        var count: Int32 = 0
        let received = try checked(
            retrying {
                rml_receive(number, buffer.baseAddress, buffer.count, &numbers, Int32(descriptorsMax), &count)
            }, "receive from", "descriptor \(number)")
        descriptors.append(contentsOf: numbers.prefix(Int(count)))
        return received
    }

    public static func peer(of socket: borrowing OwnedDescriptor) throws(SystemError) -> Peer {
        var peer = Peer(pid: 0, user: 0, group: 0)
        _ = try checked(
            rml_peer(socket.number, &peer.pid, &peer.user, &peer.group), "look up the peer of",
            "descriptor \(socket.number)")
        return peer
    }
}
