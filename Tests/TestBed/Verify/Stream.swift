import Foundation
import Synchronization

/// A TCP client socket of a verifier. Owned by one thread.
final class Stream {
    let descriptor: Int32

    /// Connects, trying again until `limit` has passed: a guest's service may not listen yet.
    init(to address: String, port: UInt16, limit: Duration = .seconds(10)) throws(BedError) {
        let end = ContinuousClock.now + limit
        while true {
            let failure: String
            switch Self.attempt(address, port) {
            case .success(let open):
                descriptor = open
                return
            case .failure(let error): failure = error.description
            }
            guard ContinuousClock.now < end else {
                throw BedError("no connection to \(address):\(port) within \(limit): \(failure).")
            }
            usleep(20_000)
        }
    }

    private static func attempt(_ address: String, _ port: UInt16) -> Result<Int32, BedError> {
        let open = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard open >= 0 else { return .failure(BedError(reason())) }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        guard inet_pton(AF_INET, address, &name.sin_addr) == 1 else {
            close(open)
            return .failure(BedError("\(address) is no IPv4 address"))
        }
        // Bounds connect() as well; reads of a blocking client are bounded by poll.
        var limit = timeval(tv_sec: 3, tv_usec: 0)
        var one: Int32 = 1
        setsockopt(open, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(open, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        let status = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(open, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if status == 0 { return .success(open) }
        let error = BedError(reason())
        close(open)
        return .failure(error)
    }

    private static func reason() -> String { String(cString: strerror(errno)) }

    deinit { close(descriptor) }

    /// What one attempt to read or write without waiting gave.
    enum Step: Equatable {
        case moved(Int)
        case wouldBlock
        case over
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Step {
        step(recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT)))
    }

    func send(_ bytes: UnsafeRawBufferPointer) -> Step {
        step(
            Glibc.send(
                descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)))
    }

    private func step(_ count: Int) -> Step {
        if count > 0 { return .moved(count) }
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return .wouldBlock }
        return .over
    }

    /// Sends all of it, waiting as long as needed; false when the connection is over.
    func sendAll(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            switch bytes.withUnsafeBytes({ send(UnsafeRawBufferPointer(rebasing: $0[sent...])) }) {
            case .moved(let count): sent += count
            case .wouldBlock: _ = isReady(for: Int16(POLLOUT), within: .seconds(1))
            case .over: return false
            }
        }
        return true
    }

    func isReady(for events: Int16, within limit: Duration) -> Bool {
        var entry = pollfd(fd: descriptor, events: events, revents: 0)
        return poll(&entry, 1, Int32(limit / .milliseconds(1))) > 0
    }

    /// Appends what arrives within `limit`; false when the connection is over.
    func receive(into bytes: inout [UInt8], within limit: Duration) -> Bool {
        guard isReady(for: Int16(POLLIN), within: limit) else { return true }
        let part = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 8) { buffer -> [UInt8]? in
            switch receive(into: buffer) {
            case .moved(let count): [UInt8](buffer[..<count])
            case .wouldBlock: []
            case .over: nil
            }
        }
        guard let part else { return false }
        bytes += part
        return true
    }

    /// Tells the other side that nothing more will be sent.
    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }
}

/// The wish to end, given to a client process by SIGTERM or SIGINT.
enum Stop {
    private static let flag = Atomic<Bool>(false)
    static var isAsked: Bool { flag.load(ordering: .relaxed) }

    static func listen() {
        for number in [SIGTERM, SIGINT] { signal(number) { _ in Stop.flag.store(true, ordering: .relaxed) } }
        signal(SIGPIPE, SIG_IGN)
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share.
public func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Nanoseconds of CLOCK_BOOTTIME, which all hosts of a bed share; it is what the agents' journals have.
public func bootNanoseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_BOOTTIME, &now)
    return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}

/// CRC-32C (reflected 0x82f63b78), as in `Guest/guest.h`: the bed's own, to judge the product by nothing of its own.
struct CRC32C {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in (value >> 1) ^ (value & 1 == 1 ? 0x82f6_3b78 : 0) }
    }

    static func of(_ bytes: some Sequence<UInt8>) -> UInt32 {
        ~bytes.reduce(~0) { crc, byte in (crc >> 8) ^ table[Int((crc ^ UInt32(byte)) & 0xff)] }
    }
}
