import Foundation

/// Compares two byte ranges page by page: the guest's RAM in a QEMU process, a file of guest RAM, or a raw disk.
public enum PageComparison {
    /// Where bytes come from.
    public enum Source: Sendable {
        /// A file or block device, from an offset in bytes.
        case file(String, offset: Int = 0)
        /// The memory of a process, from a virtual address (`gpa2hva` gives that of guest RAM).
        case memory(pid: pid_t, address: UInt64)

        var path: String {
            switch self {
            case .file(let path, _): path
            case .memory(let pid, _): "/proc/\(pid)/mem"
            }
        }

        var start: Int {
            switch self {
            case .file(_, let offset): offset
            case .memory(_, let address): Int(truncatingIfNeeded: address)
            }
        }
    }

    /// The numbers of the pages that differ, in rising order. Neither source may be written meanwhile.
    /// - Parameter bytes: how much is compared; a source that ends before is an error.
    public static func differingPages(
        _ left: Source, _ right: Source, bytes: Int, pageSize: Int = 4096
    ) throws(BedError) -> [Int] {
        let leftReader = try Reader(left)
        let rightReader = try Reader(right)
        let chunk = pageSize * 256
        var leftBytes = [UInt8](repeating: 0, count: chunk)
        var rightBytes = leftBytes
        var different: [Int] = []
        for offset in stride(from: 0, to: bytes, by: chunk) {
            let count = min(chunk, bytes - offset)
            try leftReader.read(&leftBytes, count: count, at: offset)
            try rightReader.read(&rightBytes, count: count, at: offset)
            if isEqual(leftBytes, rightBytes, 0, count) { continue }
            for from in stride(from: 0, to: count, by: pageSize)
            where !isEqual(leftBytes, rightBytes, from, min(pageSize, count - from)) {
                different.append((offset + from) / pageSize)
            }
        }
        return different
    }

    private static func isEqual(_ left: [UInt8], _ right: [UInt8], _ from: Int, _ count: Int) -> Bool {
        left.withUnsafeBytes { left in
            right.withUnsafeBytes { right in
                guard let first = left.baseAddress, let second = right.baseAddress else { return count == 0 }
                return memcmp(first + from, second + from, count) == 0
            }
        }
    }

    /// Whether two disk images show a guest the same bytes, whatever their formats.
    public static func areEqual(_ left: GuestDisk, _ right: GuestDisk) throws(BedError) -> Bool {
        let logs = try TemporaryDirectory("compare")
        defer { logs.remove() }
        let child = try Child(
            [
                "qemu-img", "compare", "-U", "-f", left.format.rawValue, "-F", right.format.rawValue, left.path,
                right.path,
            ], name: "compare", logs: logs.path)
        while child.isRunning { usleep(1000) }
        switch child.exit {
        case .code(0): return true
        case .code(1): return false
        default: throw BedError("qemu-img compare of \(left.path) and \(right.path): \(child.errors)")
        }
    }

    private final class Reader {
        let source: Source
        let descriptor: Int32

        init(_ source: Source) throws(BedError) {
            self.source = source
            descriptor = open(source.path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw BedError("\(source.path): \(String(cString: strerror(errno))).") }
        }

        deinit { close(descriptor) }

        func read(_ buffer: inout [UInt8], count: Int, at offset: Int) throws(BedError) {
            var done = 0
            while done < count {
                let got = buffer.withUnsafeMutableBytes {
                    pread(descriptor, $0.baseAddress.map { $0 + done }, count - done, source.start + offset + done)
                }
                if got < 0 && errno == EINTR { continue }
                guard got > 0 else {
                    let why = got == 0 ? "it ends there" : String(cString: strerror(errno))
                    throw BedError("\(source.path) cannot be read at \(source.start + offset + done): \(why).")
                }
                done += got
            }
        }
    }
}
