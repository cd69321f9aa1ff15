import Foundation
import Synchronization

/// Runs `body` on a thread of its own in the namespace of `host`; sockets that it opens stay there.
public func within<Value: Sendable>(_ host: BedHost, _ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let outcome = Outcome<Value>()
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
        let result = Result {
            try Namespace.enter(host.namespace)
            return try body()
        }
        outcome.result.withLock { $0 = result }
        done.signal()
    }
    thread.start()
    done.wait()
    guard let result = outcome.result.withLock({ $0 }) else {
        throw BedError("a thread in \(host.name) ended without an outcome.")
    }
    return try result.get()
}

private final class Outcome<Value: Sendable>: Sendable {
    let result = Mutex<Result<Value, any Error>?>(nil)
}

/// QEMU's end of a tap: what is written here comes in from the device.
public final class GuestSide: Sendable {
    private let descriptor: Int32
    private let headerLength: Int

    /// In the namespace of the calling thread; the tap exists. With a header, each frame is written behind one of 10 bytes
    /// (`struct virtio_net_hdr`).
    public init(tap: String, hasHeader: Bool = false, isOneOfSeveral: Bool = false) throws {
        descriptor = try Namespace.openTap(tap, hasHeader: hasHeader, isOneOfSeveral: isOneOfSeveral)
        headerLength = hasHeader ? 10 : 0
    }

    /// Waits until the bridge forwards what comes in: the kernel brings a port up some time after its tap was opened.
    public convenience init(tap: String, heardBy listener: Listener) throws {
        try self.init(tap: tap)
        let end = ContinuousClock.now + .seconds(10)
        repeat {
            guard ContinuousClock.now < end else { throw BedError("nothing from \(tap) arrives") }
            try send(0)
        } while listener.numbers().isEmpty
    }

    deinit { close(descriptor) }

    /// A broadcast frame of the EtherType for experiments (IEEE 802: 88b5), from the guest's MAC address 52:54:00:00:00:`mac`.
    /// `tag` is that of a VLAN; `length` is at least 60.
    public func send(_ number: UInt64, mac: UInt8 = 1, tag: UInt16? = nil, length: Int = 60) throws {
        var frame: [UInt8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, mac]
        if let tag { frame += [0x81, 0, UInt8(tag >> 8), UInt8(tag & 0xff)] }
        frame += [0x88, 0xb5]
        withUnsafeBytes(of: number) { frame += $0 }
        frame += (frame.count..<max(length, 60)).map { UInt8(truncatingIfNeeded: $0) }
        try write(frame)
    }

    /// A frame as it is; `header` is what QEMU would have put before it.
    public func write(_ frame: [UInt8], header: [UInt8] = [UInt8](repeating: 0, count: 10)) throws {
        let bytes = header.prefix(headerLength) + frame
        let sent = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard sent == bytes.count else { throw BedError("cannot send \(bytes.count) bytes: \(errno)") }
    }

    /// The next frame that the network has for the guest, without its header; nil when none comes for 300 ms.
    public func receive() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 70_000)
        var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&slot, 1, 300) == 1 else { return nil }
        let count = read(descriptor, &buffer, buffer.count)
        return count > headerLength ? Array(buffer[headerLength..<count]) : nil
    }
}

/// What arrives at a host of those frames.
public final class Listener: Sendable {
    private let descriptor: Int32

    /// In the namespace of the calling thread, on all of its devices.
    public init() throws {
        descriptor = socket(17, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue), Int32(UInt16(0x88b5).bigEndian))
        guard descriptor >= 0 else { throw BedError("no packet socket: \(errno)") }
        var size: Int32 = 64 << 20
        // SO_RCVBUFFORCE
        setsockopt(descriptor, SOL_SOCKET, 33, &size, 4)
    }

    deinit { close(descriptor) }

    /// The numbers and MAC addresses of what has come by now, and until none has come for 60 ms.
    public func take() -> [(number: UInt64, mac: UInt8)] {
        frames().map { frame in
            ((0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(frame[14 + $1]) }, frame[11])
        }
    }

    /// The same, whole. A tag of a VLAN is not part of what a packet socket shows.
    public func frames() -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 70_000)
        while true {
            var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&slot, 1, 60) == 1 else { return frames }
            let count = read(descriptor, &buffer, buffer.count)
            if count >= 22 { frames.append(Array(buffer[..<count])) }
        }
    }

    public func numbers() -> [UInt64] { take().map(\.number) }
}
