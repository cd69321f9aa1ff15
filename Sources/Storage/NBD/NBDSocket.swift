import CLinux
import Glibc
import LinuxSystem

/// A stream socket with a buffer in front of its input, so that small requests cost one system call each.
// SAFETY: the buffer belongs to this value alone, so the value may move to another thread.
struct NBDSocket: ~Copyable, @unchecked Sendable {
    static let bufferSize = 256 << 10

    private let descriptor: Int32
    private let buffer: UnsafeMutableRawBufferPointer
    private var start = 0
    private var end = 0

    /// Borrows the descriptor: the caller keeps it open for as long as this value lives.
    init(borrowing descriptor: Int32) {
        self.descriptor = descriptor
        buffer = .allocate(byteCount: Self.bufferSize, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// The next `count` bytes (at most `bufferSize`), valid until the next call; nil when the other side ended first.
    mutating func take(_ count: Int) throws(SystemError) -> UnsafeRawBufferPointer? {
        if count > end - start {
            if start + count > buffer.count {
                buffer.baseAddress!.copyMemory(from: buffer.baseAddress! + start, byteCount: end - start)
                (start, end) = (0, end - start)
            }
            while end - start < count {
                let got = try receive(into: UnsafeMutableRawBufferPointer(rebasing: buffer[end...]))
                if got == 0 { return nil }
                end += got
            }
        }
        let taken = UnsafeRawBufferPointer(rebasing: buffer[start..<start + count])
        start += count
        if start == end { (start, end) = (0, 0) }
        return taken
    }

    /// Fills `target`, past the buffer as far as possible; false when the other side ended first.
    mutating func fill(_ target: UnsafeMutableRawBufferPointer) throws(SystemError) -> Bool {
        var done = min(target.count, end - start)
        if done > 0 {
            target.baseAddress!.copyMemory(from: buffer.baseAddress! + start, byteCount: done)
            start += done
            if start == end { (start, end) = (0, 0) }
        }
        while done < target.count {
            let got = try receive(into: UnsafeMutableRawBufferPointer(rebasing: target[done...]))
            if got == 0 { return false }
            done += got
        }
        return true
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws(SystemError) { try Self.send(bytes, to: descriptor) }

    static func send(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let sent = rml_send(descriptor, bytes.baseAddress! + done, bytes.count - done, nil, 0)
            if sent == -Int(EINTR) { continue }
            if sent < 0 { throw SystemError(operation: "write to", errno: Int32(-sent), subject: "the NBD socket") }
            done += sent
        }
    }

    func send(_ bytes: [UInt8]) throws(SystemError) {
        try bytes.withUnsafeBufferPointer { (bytes) throws(SystemError) in try send(UnsafeRawBufferPointer(bytes)) }
    }

    private func receive(into target: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        while true {
            let got = rml_read(descriptor, target.baseAddress, target.count)
            if got == -Int(EINTR) { continue }
            if got < 0 { throw SystemError(operation: "read from", errno: Int32(-got), subject: "the NBD socket") }
            return got
        }
    }
}
