import Foundation
import Synchronization

/// Notes when frames of a guest came in through a device of a host: at a port of the bed's switch, what really left the
/// host on the other end of the cable.
public final class FrameWatch: Sendable {
    private let record = Record()

    /// - Parameter mac: the address that the frames are from.
    public init(_ device: String, of host: BedHost, from mac: String) throws {
        let address = mac.split(separator: ":").compactMap { UInt8($0, radix: 16) }
        let shown = try host.run(["ip", "-o", "link", "show", "dev", device])
        guard address.count == 6, let index = Int32(shown.prefix { $0 != ":" }) else {
            throw BedError("\(mac) is no address, or \(shown) does not begin with the number of \(device).")
        }
        let descriptor = try within(host) { try Self.open(index) }
        let thread = Thread { [record] in
            record.fill(from: descriptor, address)
            close(descriptor)
        }
        thread.name = "watch \(device)"
        thread.start()
    }

    deinit { record.end() }

    /// How many came from `moment` on, and before `end`; both as `bootNanoseconds` has them.
    public func frames(from moment: Int64, before end: Int64 = .max) -> Int { record.count(moment, end) }

    /// A packet socket on one device, in the namespace of the calling thread.
    private static func open(_ index: Int32) throws -> Int32 {
        // AF_PACKET and ETH_P_ALL, in network order; struct sockaddr_ll begins with both and the number of the device.
        let all = UInt16(3).bigEndian
        let descriptor = socket(17, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue), Int32(all))
        guard descriptor >= 0 else { throw BedError("no packet socket: \(errno)") }
        var size: Int32 = 64 << 20
        // SO_RCVBUFFORCE
        setsockopt(descriptor, SOL_SOCKET, 33, &size, 4)
        var address = [UInt8](repeating: 0, count: addressLength)
        address.withUnsafeMutableBytes {
            $0.storeBytes(of: 17, as: UInt16.self)
            $0.storeBytes(of: all, toByteOffset: 2, as: UInt16.self)
            $0.storeBytes(of: index, toByteOffset: 4, as: Int32.self)
        }
        let status = address.withUnsafeBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { bind(descriptor, $0.baseAddress, socklen_t(addressLength)) }
        }
        guard status == 0 else {
            let reason = errno
            close(descriptor)
            throw BedError("the packet socket cannot be bound: \(reason)")
        }
        return descriptor
    }

    /// Of `struct sockaddr_ll`, whose byte 10 says which way a frame goes: 4 is out (PACKET_OUTGOING).
    fileprivate static let addressLength = 20
    fileprivate static let wayOffset = 10
    fileprivate static let outgoing: UInt8 = 4
}

private final class Record: Sendable {
    private struct Content {
        var moments: [Int64] = []
        var isOver = false
    }
    private let content = Mutex(Content())

    func end() { content.withLock { $0.isOver = true } }

    func count(_ moment: Int64, _ end: Int64) -> Int {
        content.withLock { content in content.moments.count(where: { $0 >= moment && $0 < end }) }
    }

    func fill(from descriptor: Int32, _ mac: [UInt8]) {
        var header = [UInt8](repeating: 0, count: 14)
        while !content.withLock({ $0.isOver }) {
            var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&slot, 1, 100) == 1 else { continue }
            while let isOutgoing = Self.take(descriptor, &header) {
                guard !isOutgoing, Array(header[6..<12]) == mac else { continue }
                let now = bootNanoseconds()
                content.withLock { $0.moments.append(now) }
            }
        }
    }

    /// The head of the next frame, and whether it goes out; nil when there is none.
    private static func take(_ descriptor: Int32, _ header: inout [UInt8]) -> Bool? {
        var address = [UInt8](repeating: 0, count: FrameWatch.addressLength)
        var length = socklen_t(FrameWatch.addressLength)
        let count = address.withUnsafeMutableBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) {
                recvfrom(descriptor, &header, header.count, 0, $0.baseAddress, &length)
            }
        }
        return count == header.count ? address[FrameWatch.wayOffset] == FrameWatch.outgoing : nil
    }
}
