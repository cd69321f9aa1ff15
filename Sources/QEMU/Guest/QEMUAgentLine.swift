import Glibc
import Hypervisor

/// A client of the unix socket behind the port of a guest agent (qga). QEMU serves one client at a time: a further one waits, and
/// hears nothing.
package final class QEMUAgentLine: GuestAgentLine {
    /// The id of the chardev.
    package let name: String
    /// The id of the port's device; QEMU tells of ports without one nothing.
    package let port: String?
    private let path: String
    private var descriptor: Int32 = -1
    private var reader = GuestAgentReader()
    private var buffer = [UInt8](repeating: 0, count: 4096)
    /// No guest keeps us busy with what it writes: so many buffers at a time.
    private static let roundsMax = 16

    package init(_ name: String, port: String?, path: String) {
        (self.name, self.port, self.path) = (name, port, path)
    }

    deinit { close() }

    package var isOpen: Bool { descriptor >= 0 }

    private func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    package func open() {
        close()
        reader = GuestAgentReader()
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        descriptor = socket(AF_UNIX, kind, 0)
        guard descriptor >= 0 else { return }
        // A queue of waiting clients that is full refuses at once.
        if UnixSocket.withAddress(path, { Glibc.connect(descriptor, $0, $1) }) != 0 { close() }
    }

    /// The agent forgets at 0xFF whatever it got before (qga/main.c, `channel_event_cb`; docs/interop/qemu-ga).
    package func ask(_ number: UInt64) {
        let request = "{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":\(number)}}\n"
        let bytes = [0xFF] + Array(request.utf8)
        // Of what has no room, or is cut, the next one's first byte clears the agent.
        let sent = bytes.withUnsafeBytes { UnixSocket.send(descriptor, $0, descriptors: []) }
        if sent < 0, ![EAGAIN, EINTR].contains(Int32(-sent)) { close() }
    }

    package func takeAnswers() -> [UInt64] {
        var numbers: [UInt64] = []
        for _ in 0..<Self.roundsMax where isOpen {
            let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count < 0, [EAGAIN, EINTR].contains(errno) { break }
            guard count > 0 else {
                close()
                break
            }
            numbers += buffer.withUnsafeBytes { reader.read(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
        return numbers
    }
}
