import Glibc

/// One mapping of a process: a line of /proc/PID/maps.
public struct MappedRegion: Hashable, Sendable {
    public var start: UInt64
    /// First address after the mapping.
    public var end: UInt64
    public var readable: Bool
    public var writable: Bool
    public var executable: Bool
    public var shared: Bool
    /// Position of `start` in the file, in bytes.
    public var offset: UInt64
    public var deviceMajor: UInt32
    public var deviceMinor: UInt32
    /// 0 for memory that belongs to no file.
    public var inode: UInt64
    /// Path of the file, or a name such as `[vdso]`; empty for plain memory.
    public var path: String

    /// Private memory without a file: a page without an entry was never touched and reads as zero.
    public var isPrivateAnonymous: Bool { !shared && inode == 0 }

    /// Nil for a line that does not look like one of /proc/PID/maps.
    init?(line: Substring) {
        let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
        guard fields.count >= 5 else { return nil }
        let range = fields[0].split(separator: "-")
        let device = fields[3].split(separator: ":")
        let rights = Array(fields[1].utf8)
        guard range.count == 2, device.count == 2, rights.count == 4,
            let start = UInt64(range[0], radix: 16), let end = UInt64(range[1], radix: 16), start < end,
            let offset = UInt64(fields[2], radix: 16),
            let major = UInt32(device[0], radix: 16), let minor = UInt32(device[1], radix: 16),
            let inode = UInt64(fields[4])
        else { return nil }
        self.start = start
        self.end = end
        readable = rights[0] == UInt8(ascii: "r")
        writable = rights[1] == UInt8(ascii: "w")
        executable = rights[2] == UInt8(ascii: "x")
        shared = rights[3] == UInt8(ascii: "s")
        self.offset = offset
        deviceMajor = major
        deviceMinor = minor
        self.inode = inode
        path = fields.count == 6 ? String(fields[5].drop(while: { $0 == " " })) : ""
    }
}

/// Frames that passed through a network device since it was made, as the host counts them. Of a tap `received` is what
/// the guest sent.
public struct DeviceFrames: Hashable, Sendable {
    public var received: UInt64
    public var sent: UInt64
    /// Of those that were to be sent: lost in the host.
    public var unsent: UInt64

    public init(received: UInt64, sent: UInt64, unsent: UInt64 = 0) {
        self.received = received
        self.sent = sent
        self.unsent = unsent
    }

    /// A line of /proc/net/dev: eight counters of what was received, the second one frames, then as many of what was sent, of which
    /// the fourth are frames that were dropped.
    /// Nil for the two lines of headings and for whatever else is none.
    static func parse(_ line: Substring) -> (name: String, frames: DeviceFrames)? {
        guard let colon = line.lastIndex(of: ":") else { return nil }
        let fields = line[line.index(after: colon)...].split(separator: " ")
        guard fields.count >= 16, let received = UInt64(fields[1]), let sent = UInt64(fields[9]),
            let unsent = UInt64(fields[11])
        else { return nil }
        return (String(line[..<colon].drop { $0 == " " }), DeviceFrames(received: received, sent: sent, unsent: unsent))
    }
}

/// What /proc says about a process.
public enum ProcessFiles {
    /// Whether the process has the network devices that the calling thread has: the same network namespace. False where that
    /// cannot be known.
    public static func sharesNetwork(with pid: pid_t) -> Bool {
        guard let its = network(of: pid) else { return false }
        return its == network(of: NamedThread.currentID)
    }

    /// Which network namespace a process or thread is in: the number of its inode on nsfs. Nil where that cannot be known.
    public static func network(of pid: pid_t) -> UInt64? {
        var namespace = stat()
        return stat("/proc/\(pid)/ns/net", &namespace) == 0 ? UInt64(namespace.st_ino) : nil
    }

    /// The mappings in address order. Needs the right to trace the process.
    public static func mappings(of pid: pid_t) throws(SystemError) -> [MappedRegion] {
        try Files.text(of: "/proc/\(pid)/maps").split(separator: "\n").compactMap { MappedRegion(line: $0) }
    }

    /// The size of the pages that the mapping at `address` is made of, in bytes. Reads /proc/PID/smaps, for which the kernel
    /// walks through all of the process's page table.
    static func pageBytes(of pid: pid_t, at address: UInt64) throws(SystemError) -> UInt64 {
        let path = "/proc/\(pid)/smaps"
        var isThere = false
        for line in try Files.text(of: path).split(separator: "\n") {
            if let region = MappedRegion(line: line) {
                isThere = region.start <= address && address < region.end
            } else if isThere, line.hasPrefix("KernelPageSize:") {
                let words = line.split(separator: " ")
                if words.count == 3, let kibibytes = UInt64(words[1]) { return kibibytes << 10 }
            }
        }
        throw SystemError(
            operation: "look up", errno: ENOENT, subject: "the page size at 0x\(String(address, radix: 16)) in \(path)")
    }

    /// A field of /proc/PID/status, such as `TracerPid`, without the blanks around it.
    public static func status(_ field: String, of pid: pid_t) throws(SystemError) -> String? {
        let prefix = field + ":"
        for line in try Files.text(of: "/proc/\(pid)/status").split(separator: "\n") where line.hasPrefix(prefix) {
            let value = line.dropFirst(prefix.count).drop { $0 == "\t" || $0 == " " }
            return String(value)
        }
        return nil
    }

    /// The ids of all processes that can be seen, in order.
    public static func all() -> [pid_t] { (try? numbers(in: "/proc")) ?? [] }

    /// The command name (at most 15 bytes), or nil when the process is gone.
    public static func name(of pid: pid_t) -> String? {
        guard let text = try? Files.text(of: "/proc/\(pid)/comm") else { return nil }
        return String(text.prefix { $0 != "\n" })
    }

    /// What passed through each network device of the network namespace that the process is in, by the device's name.
    public static func networkDevices(of pid: pid_t) throws(SystemError) -> [String: DeviceFrames] {
        var devices: [String: DeviceFrames] = [:]
        for line in try Files.text(of: "/proc/\(pid)/net/dev").split(separator: "\n") {
            guard let (name, frames) = DeviceFrames.parse(line) else { continue }
            devices[name] = frames
        }
        return devices
    }

    /// The fields of /proc/PID/stat from the third, the state, on; nil when the process is gone.
    public static func statistics(of pid: pid_t) -> [Substring]? {
        // The name, in parentheses, may hold anything.
        guard let text = try? Files.text(of: "/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        return text[text.index(after: end)...].split(separator: " ")
    }

    /// What it has used of the processors, in seconds; nil when it is gone.
    public static func processorSeconds(of pid: pid_t) -> Double? {
        // utime and stime are the 14th and the 15th field.
        guard let fields = statistics(of: pid), fields.count > 12, let user = Double(fields[11]),
            let system = Double(fields[12])
        else { return nil }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// The ids of the threads that the process has now, its main thread (equal to `pid`) among them.
    public static func threads(of pid: pid_t) throws(SystemError) -> [pid_t] { try numbers(in: "/proc/\(pid)/task") }

    /// The numbers of the descriptors that the process has open now.
    public static func descriptors(of pid: pid_t) throws(SystemError) -> [Int32] { try numbers(in: "/proc/\(pid)/fd") }

    /// Whether the process has open what lies at that path, and not something else that lay there before. Nil where that
    /// cannot be known.
    public static func hasOpen(_ path: String, _ pid: pid_t) -> Bool? {
        var wanted = stat()
        guard stat(path, &wanted) == 0, let numbers = try? descriptors(of: pid) else { return nil }
        return numbers.contains { number in
            var status = stat()
            return stat("/proc/\(pid)/fd/\(number)", &status) == 0 && status.st_ino == wanted.st_ino
                && status.st_dev == wanted.st_dev
        }
    }

    /// The entries of a folder whose names are numbers, in order.
    private static func numbers(in path: String) throws(SystemError) -> [Int32] {
        guard let folder = opendir(path) else {
            throw SystemError(operation: "list", errno: Glibc.errno, subject: path)
        }
        defer { closedir(folder) }
        var numbers: [Int32] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let number = Int32(name) { numbers.append(number) }
        }
        return numbers.sorted()
    }
}
