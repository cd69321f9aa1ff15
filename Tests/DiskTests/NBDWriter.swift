import Glibc
import LinuxSystem
import Testing

/// Writes to an NBD server as QEMU's mirror does, and reads its replies when the test wants to.
final class NBDWriter {
    struct Reply: Equatable {
        var cookie: UInt64
        var error: UInt32
    }

    private let socket: OwnedDescriptor

    /// Shakes hands on a connected socket, of which it makes a copy.
    init(_ descriptor: Int32) throws {
        socket = OwnedDescriptor(owning: fcntl(descriptor, F_DUPFD_CLOEXEC, 0))
        _ = try receive(18)
        // No padding; the export without a name, as it is.
        send(big(UInt32(3)) + Array("IHAVEOPT".utf8) + big(UInt32(1)) + big(UInt32(0)))
        _ = try receive(10)
    }

    func write(_ cookie: UInt64, at offset: Int, _ data: [UInt8]) throws {
        send(
            big(UInt32(0x2560_9513)) + big(UInt16(0)) + big(UInt16(1)) + big(cookie) + big(UInt64(offset))
                + big(UInt32(data.count)) + data)
    }

    func reply() throws -> Reply {
        let header = try receive(16)
        func number(_ range: Range<Int>) -> UInt64 { header[range].reduce(0) { $0 << 8 | UInt64($1) } }
        try #require(number(0..<4) == 0x6744_6698)
        return Reply(cookie: number(8..<16), error: UInt32(number(4..<8)))
    }

    /// True when a reply has come that was not read yet.
    var hasInput: Bool {
        var byte: UInt8 = 0
        return recv(socket.number, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT)) > 0
    }

    private func send(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let flags = Int32(MSG_NOSIGNAL)
                let sent = Glibc.send(socket.number, bytes.baseAddress! + done, bytes.count - done, flags)
                if sent <= 0 { return }
                done += sent
            }
        }
    }

    private func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let complete = try bytes.withUnsafeMutableBytes { try socket.readAll(into: $0) }
        try #require(complete, "the server hung up")
        return bytes
    }

    private func big<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}
