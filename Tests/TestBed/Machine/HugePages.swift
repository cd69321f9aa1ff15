import Foundation

/// Room for huge pages of 2 MiB (hugetlbfs), which the kernel makes when they are wanted and takes back when they are given up.
/// Without it there may be none. It ends with its owner.
public final class HugePages: Sendable {
    private static let path = "/proc/sys/vm/nr_overcommit_hugepages"
    private let count: Int

    /// Whether this machine lets us have any.
    public static var areAvailable: Bool { access(path, W_OK) == 0 }

    public init(mebibytes: Int) throws(BedError) {
        count = mebibytes / 2
        try Self.add(count)
    }

    deinit { try? Self.add(-count) }

    /// Other tests may want some at the same time.
    private static func add(_ count: Int) throws(BedError) {
        let file = open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw BedError("\(path) cannot be opened: \(String(cString: strerror(errno))).") }
        defer { close(file) }
        flock(file, LOCK_EX)
        var digits = [UInt8](repeating: 0, count: 32)
        let length = pread(file, &digits, digits.count, 0)
        let now = Int(String(decoding: digits[..<max(0, length)], as: UTF8.self).prefix { $0.isNumber }) ?? 0
        let text = "\(max(0, now + count))"
        guard pwrite(file, text, text.utf8.count, 0) == text.utf8.count else {
            throw BedError("\(path) cannot be written: \(String(cString: strerror(errno))).")
        }
    }
}
