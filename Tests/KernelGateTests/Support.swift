import Glibc
import LinuxSystem
import TestBed

struct TestFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// Runs `body` on a thread of its own in the namespace of `host`; sockets that it opens stay there.
func within<Value: Sendable>(_ host: BedHost, _ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let result: Result<Value, any Error> = try NamedThread.run("in-namespace") {
        Result {
            try Namespace.enter(host.namespace)
            return try body()
        }
    }
    return try result.get()
}

/// QEMU's end of a tap: what is written here comes in from the device.
final class GuestSide: Sendable {
    private let descriptor: Int32

    /// In the namespace of the calling thread; the tap exists.
    init(tap: String) throws {
        descriptor = try Namespace.openTap(tap)
    }

    /// Waits until the bridge forwards what comes in: the kernel brings a port up some time after its tap was opened.
    convenience init(tap: String, heardBy listener: Listener) throws {
        try self.init(tap: tap)
        let end = MonotonicClock.now() + 10_000_000_000
        repeat {
            guard MonotonicClock.now() < end else { throw TestFailure("nothing from \(tap) arrives") }
            try send(0)
        } while listener.numbers().isEmpty
    }

    deinit { close(descriptor) }

    /// A broadcast frame of the EtherType for experiments (IEEE 802: 88b5), from the guest's MAC address 52:54:00:00:00:`mac`.
    func send(_ number: UInt64, mac: UInt8 = 1) throws {
        var frame: [UInt8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0, 0, mac, 0x88, 0xb5]
        withUnsafeBytes(of: number) { frame += $0 }
        frame += [UInt8](repeating: 0, count: 60 - frame.count)
        guard write(descriptor, frame, frame.count) == frame.count else { throw TestFailure("cannot send: \(errno)") }
    }
}

/// What arrives at a host of those frames.
final class Listener: Sendable {
    private let descriptor: Int32

    /// In the namespace of the calling thread, on all of its devices.
    init() throws {
        descriptor = socket(17, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue), Int32(UInt16(0x88b5).bigEndian))
        guard descriptor >= 0 else { throw TestFailure("no packet socket: \(errno)") }
        var size: Int32 = 4 << 20
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
    }

    deinit { close(descriptor) }

    /// The numbers and MAC addresses of what has come by now, and until none has come for 60 ms.
    func take() -> [(number: UInt64, mac: UInt8)] {
        var frames: [(UInt64, UInt8)] = []
        var buffer = [UInt8](repeating: 0, count: 2048)
        while true {
            var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&slot, 1, 60) == 1 else { return frames }
            let count = read(descriptor, &buffer, buffer.count)
            guard count >= 22 else { continue }
            let number = (0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(buffer[14 + $1]) }
            frames.append((number, buffer[11]))
        }
    }

    func numbers() -> [UInt64] { take().map(\.number) }
}
