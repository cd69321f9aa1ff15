import CLinux
import Glibc
import LinuxSystem

/// A frame by which a host is heard in a network, and an uplink at which these are sent and heard.
enum Probe {
    static let etherType: UInt16 = 0x88b5
    private static let group: [UInt8] = [0x03, 0x52, 0x4d, 0x4c, 0x50, 0x00]
    private static let magic = Array("RMLP".utf8) + [1]
    private static let head = 14

    static func frame(of node: String, from address: [UInt8]) -> [UInt8] {
        let name = Array(node.utf8.prefix(63))
        let frame =
            group + address + [UInt8(etherType >> 8), UInt8(etherType & 0xff)] + magic + [UInt8(name.count)] + name
        return frame + [UInt8](repeating: 0, count: max(0, 60 - frame.count))
    }

    /// Whose it is; nil for another frame.
    static func node(of frame: some RandomAccessCollection<UInt8>) -> String? {
        let bytes = Array(frame)
        guard bytes.count > head + magic.count, bytes[12] == UInt8(etherType >> 8),
            bytes[13] == UInt8(etherType & 0xff), bytes[head..<head + magic.count].elementsEqual(magic)
        else { return nil }
        let start = head + magic.count + 1
        let end = start + Int(bytes[start - 1])
        return end <= bytes.count ? String(decoding: bytes[start..<end], as: UTF8.self) : nil
    }
}

/// An uplink at which probes are sent and heard. Used by one thread.
struct UplinkSocket {
    let link: NetworkLink
    private let descriptor: Owner

    private final class Owner {
        let number: OwnedDescriptor
        init(_ number: consuming OwnedDescriptor) { self.number = number }
    }

    init(at link: NetworkLink) throws(SystemError) {
        let opened = rml_packet_socket(Int32(link.number), Probe.etherType)
        guard opened >= 0 else {
            throw SystemError(operation: "open", errno: -opened, subject: "a packet socket at \(link.name)")
        }
        self.link = link
        descriptor = Owner(OwnedDescriptor(owning: opened))
    }

    var number: Int32 { descriptor.number.number }

    /// Lost where the device takes nothing: that is what it is for.
    func send(_ frame: [UInt8]) { _ = write(number, frame, frame.count) }

    /// Whether frames are heard that are no probes.
    func hear(all: Bool) { _ = rml_packet_hear_all(number, Probe.etherType, all ? 1 : 0) }

    /// The heads of frames that came.
    func take(_ body: (ArraySlice<UInt8>) -> Void) {
        var buffer = [UInt8](repeating: 0, count: 128)
        // A flood does not keep the probes waiting.
        for _ in 0..<1000 {
            let count = recv(number, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            body(buffer[..<count])
        }
    }
}
