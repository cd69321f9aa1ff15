import Glibc

/// What `/proc` says about a process.
struct ProcessFacts {
    let pid: Int32

    /// A file of `/proc/PID`, whole; nil when it cannot be read.
    func read(_ name: String) -> [UInt8]? {
        let descriptor = open("/proc/\(pid)/\(name)", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    func link(_ name: String) -> String? { Self.link("/proc/\(pid)/\(name)") }

    private static func link(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes {
            $0.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, $0.count) }
        }
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }

    var arguments: [String]? {
        guard let bytes = read("cmdline"), !bytes.isEmpty else { return nil }
        var parts = bytes.split(separator: 0, omittingEmptySubsequences: false)
        // The list ends with a zero byte, which is not one more argument.
        if parts.last?.isEmpty == true { parts.removeLast() }
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }

    /// True for an executable of 64 bits; nil when it cannot be read.
    var is64Bit: Bool? {
        let descriptor = open("/proc/\(pid)/exe", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var header = [UInt8](repeating: 0, count: 5)
        guard Glibc.read(descriptor, &header, 5) == 5, header[0] == 0x7f, header[1] == UInt8(ascii: "E") else {
            return nil
        }
        return header[4] == 2
    }

    /// The interface of a tap that the process has open as that descriptor: drivers/net/tun.c tells it in `fdinfo`.
    func interface(_ descriptor: String) -> String? {
        guard let text = read("fdinfo/\(descriptor)") else { return nil }
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") where line.hasPrefix("iff:") {
            return line.dropFirst(4).split(whereSeparator: \.isWhitespace).first.map(String.init)
        }
        return nil
    }

    /// What the process's descriptors point to.
    var openFiles: [String] {
        guard let directory = opendir("/proc/\(pid)/fd") else { return [] }
        defer { closedir(directory) }
        var files: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let target = Self.link("/proc/\(pid)/fd/\(name)") { files.append(target) }
        }
        return files
    }
}

/// The mappings of a process, from the text of `/proc/PID/maps` or `/proc/PID/smaps`.
struct MappingTable {
    struct Entry: Hashable {
        var start: UInt64
        var end: UInt64
        var permissions: String
        var path: String
        /// From `VmFlags:` of smaps, else empty.
        var flags: [Substring] = []
        var isAnonymous: Bool { path.isEmpty }
    }

    private(set) var entries: [Entry] = []

    init(parsing bytes: [UInt8]) {
        for line in bytes.split(separator: 0x0a) {
            let line = Substring(decoding: line, as: UTF8.self)
            if line.hasPrefix("VmFlags:") {
                if !entries.isEmpty { entries[entries.count - 1].flags = line.dropFirst(8).split(separator: " ") }
                continue
            }
            let words = line.split(separator: " ", maxSplits: 5)
            guard words.count >= 5, let dash = words[0].firstIndex(of: "-"),
                let start = UInt64(words[0][..<dash], radix: 16),
                let end = UInt64(words[0][words[0].index(after: dash)...], radix: 16), start < end
            else { continue }
            let path = words.count > 5 ? words[5].drop { $0 == " " } : ""
            entries.append(Entry(start: start, end: end, permissions: String(words[1]), path: String(path)))
        }
    }

    /// True when all of `start ..< start + length` is mapped, readable and writable.
    func isWritable(_ start: UInt64, _ length: UInt64) -> Bool {
        let (stop, overflow) = start.addingReportingOverflow(length)
        guard !overflow else { return false }
        var reached = start
        for entry in entries where entry.start <= reached && reached < entry.end {
            guard entry.permissions.hasPrefix("rw") else { return false }
            reached = entry.end
            if reached >= stop { return true }
        }
        return length == 0
    }

    /// Mappings that can be a whole RAM block of `length` bytes: anonymous, not inherited over fork (QEMU marks every
    /// block so, seen as `dc`), and followed by QEMU's inaccessible guard page.
    func blockCandidates(length: UInt64) -> [UInt64] {
        entries.indices.compactMap { index in
            let entry = entries[index]
            guard entry.end - entry.start == length, entry.permissions == "rw-p", entry.isAnonymous,
                entry.flags.contains("dc"), index + 1 < entries.count,
                case let guardPage = entries[index + 1], guardPage.start == entry.end,
                guardPage.permissions.hasPrefix("---")
            else { return nil }
            return entry.start
        }
    }
}
