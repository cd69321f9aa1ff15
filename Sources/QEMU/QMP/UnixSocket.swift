import Glibc

enum SystemMessage {
    static func text(_ code: Int32) -> String {
        var buffer = [CChar](repeating: 0, count: 128)
        guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// A stream socket of the unix family: the few calls of it that are used here.
enum UnixSocket {
    /// Calls `body` with the address of `path`; nil when the path does not fit into an address.
    static func withAddress<R>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    /// Waits until `descriptor` has one of `events`, or is hung up; false at the deadline.
    static func wait(_ descriptor: Int32, for events: Int32, until deadline: ContinuousClock.Instant) -> Bool {
        while true {
            let left = ContinuousClock.now.duration(to: deadline)
            var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            let count = poll(&entry, 1, left <= .zero ? 0 : milliseconds(left))
            if count > 0 { return true }
            if count < 0 && errno != EINTR { return true }
            if count == 0 && left <= .zero { return false }
        }
    }

    /// Rounded up, so that a wait never ends before its deadline and then spins.
    private static func milliseconds(_ duration: Duration) -> Int32 {
        let (seconds, atto) = duration.components
        let total = seconds.multipliedReportingOverflow(by: 1000)
        guard !total.overflow, total.partialValue < Int64(Int32.max) - 1001 else { return Int32.max }
        return Int32(total.partialValue + atto / 1_000_000_000_000_000 + 1)
    }

    /// One `sendmsg` of `bytes`, with `descriptors` in flight (SCM_RIGHTS). Returns the bytes taken, or -errno.
    static func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, descriptors: [Int32]) -> Int {
        if descriptors.isEmpty {
            let sent = Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            return sent < 0 ? -Int(errno) : sent
        }
        let payload = descriptors.count * MemoryLayout<Int32>.size
        let header = MemoryLayout<cmsghdr>.size
        // CMSG_SPACE and CMSG_DATA are macros that do not import: the header is 16 bytes, aligned to 8.
        let space = (header + payload + 7) & ~7
        let control = UnsafeMutableRawBufferPointer.allocate(byteCount: space, alignment: 8)
        defer { control.deallocate() }
        control.initializeMemory(as: UInt8.self, repeating: 0)
        var entry = cmsghdr()
        entry.cmsg_len = header + payload
        entry.cmsg_level = SOL_SOCKET
        entry.cmsg_type = 1  // SCM_RIGHTS
        control.storeBytes(of: entry, as: cmsghdr.self)
        for (index, value) in descriptors.enumerated() {
            control.storeBytes(of: value, toByteOffset: header + index * MemoryLayout<Int32>.size, as: Int32.self)
        }
        var part = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return withUnsafeMutablePointer(to: &part) { parts in
            var message = msghdr()
            message.msg_iov = parts
            message.msg_iovlen = 1
            message.msg_control = control.baseAddress
            message.msg_controllen = space
            let sent = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
            return sent < 0 ? -Int(errno) : sent
        }
    }
}
