import CLinux
import Glibc

/// Files that exist only in memory, named pipes, and room for a replica.
public enum Files {
    /// A file in memory without a name in the file system, open for reading and writing. `name` shows up in /proc.
    public static func memory(named name: String) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(owning: try checked(rml_memfd(name), "create", "the memory file \(name)"))
    }

    /// A named pipe; it must not exist yet.
    public static func makePipe(at path: String, mode: mode_t = 0o600) throws(SystemError) {
        _ = try checked(rml_mkfifo(path, mode), "create", "the named pipe \(path)")
    }

    /// Removes a file; one that is not there is no error.
    public static func remove(_ path: String) throws(SystemError) {
        let result = rml_unlink(path)
        if result != -ENOENT { _ = try checked(result, "remove", path) }
    }

    /// The whole of a small file such as those in /proc, at most `limit` bytes.
    public static func contents(of path: String, limit: Int = 16 << 20) throws(SystemError) -> [UInt8] {
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        var bytes: [UInt8] = []
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 16)
        defer { chunk.deallocate() }
        while bytes.count < limit {
            let count: Int
            do throws(SystemError) {
                count = try file.read(into: chunk)
            } catch {
                throw SystemError(operation: "read", errno: error.errno, subject: path)
            }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
        }
        throw SystemError(operation: "read", errno: EFBIG, subject: path)
    }

    /// As `contents`, as text; bytes that are no UTF-8 are replaced.
    public static func text(of path: String) throws(SystemError) -> String {
        String(decoding: try contents(of: path), as: UTF8.self)
    }

    /// What a file holds from its beginning on, at most `limit` bytes, as text; nothing when it cannot be read.
    public static func text(in file: borrowing OwnedDescriptor, limit: Int) -> String {
        var bytes = [UInt8](repeating: 0, count: limit)
        let number = file.number
        let count = bytes.withUnsafeMutableBytes { pread(number, $0.baseAddress, $0.count, 0) }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    /// Makes the file at `path` at least `length` bytes long with all of its space taken now, so that a later write cannot
    /// fail (or, through a mapping, end in SIGBUS). The space is looked at first, because for a file in memory the kernel
    /// would rather kill processes than refuse.
    public static func allocate(
        _ file: borrowing OwnedDescriptor, length: UInt64, path: String
    ) throws(SystemError) {
        var present: Int64 = 0
        var taken: Int64 = 0
        _ = try checked(rml_file_size(file.number, &present, &taken), "look up the length of", path)
        let missing = max(0, Int64(clamping: length) - taken)
        var available = try checked(rml_space_available(file.number), "look up the free space for", path)
        if try checked(rml_lives_in_memory(file.number), "look up the file system of", path) == 1 {
            // A tmpfs without a limit of its own reports no blocks at all.
            let memory = Int64(clamping: try HostMemory.available())
            available = available == 0 ? memory : min(available, memory)
        }
        if missing > available { throw noSpace(wanted: missing, available: available, path: path) }
        let result = retrying { rml_allocate(file.number, off_t(clamping: length)) }
        if result == -ENOSPC { throw noSpace(wanted: missing, available: available, path: path) }
        _ = try checked(result, "take \(length) bytes for", path)
    }

    private static func noSpace(wanted: Int64, available: Int64, path: String) -> SystemError {
        SystemError(
            operation: "take \(wanted) bytes for", errno: ENOSPC, subject: path,
            advice: "\(available) bytes are free; free some, or choose another place or host")
    }
}

/// The host's memory as a whole.
public enum HostMemory {
    /// Bytes that can be taken without pushing others out (`MemAvailable` of /proc/meminfo).
    public static func available() throws(SystemError) -> UInt64 {
        for line in try Files.text(of: "/proc/meminfo").split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            if let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ UInt64($0) }) {
                return kilobytes << 10
            }
        }
        throw SystemError(operation: "find MemAvailable in", errno: ENODATA, subject: "/proc/meminfo")
    }
}
