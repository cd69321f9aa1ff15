import CLinux
import Glibc
import LinuxSystem

/// A folder of its own, removed with everything in it.
final class TemporaryFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/system-tests.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { fatalError("cannot make a temporary folder: errno \(errno)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { remove() }

    func remove() {
        _ = try? ChildProcess(["/bin/rm", "-rf", path]).waitForEnd()
    }
}

struct TestFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A process with pipes at its input and output; killed and reaped with its owner.
final class ChildProcess {
    let pid: pid_t
    private let input: OwnedDescriptor
    private let output: OwnedDescriptor
    private var pending: [UInt8] = []
    private var reaped = false

    init(_ arguments: [String]) throws {
        let toChild = try DescriptorPair.pipe()
        let fromChild = try DescriptorPair.pipe()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild.first.number, 0)
        posix_spawn_file_actions_adddup2(&actions, fromChild.second.number, 1)
        _ = rml_spawn_close_from(&actions, 3)
        // The thread that runs a test may block signals; the child starts without that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var child: pid_t = 0
        let failure = posix_spawn(&child, arguments[0], &actions, &attributes, pointers, environ)
        pid = child
        input = toChild.takeSecond()
        output = fromChild.takeFirst()
        if failure != 0 {
            reaped = true
            throw TestFailure("cannot start \(arguments[0]): errno \(failure)")
        }
    }

    /// Counts as far as it is told to, and says so.
    static func counter() throws -> ChildProcess {
        try ChildProcess([
            "/bin/sh", "-c", "while read n; do while [ $n -gt 0 ]; do n=$((n-1)); done; echo done; done",
        ])
    }

    deinit {
        if !reaped {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
    }

    /// Waits for the end and returns the wait status.
    func waitForEnd() -> Int32 {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
        reaped = true
        return status
    }

    func send(_ line: String) throws {
        try (line + "\n").withCStringBytes { try input.writeAll($0) }
    }

    /// The next line, without its end; throws when there is none within 20 s.
    func readLine() throws -> String {
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: pending[..<end], as: UTF8.self)
                pending.removeFirst(end + 1)
                return line
            }
            var poller = Poller(capacity: 1)
            _ = poller.add(output.number)
            if try poller.wait(timeout: 20_000_000_000) == 0 { throw TestFailure("process \(pid) does not answer") }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = try chunk.withUnsafeMutableBytes { try output.read(into: $0) }
            if count == 0 { throw TestFailure("process \(pid) ended instead of answering") }
            pending.append(contentsOf: chunk[..<count])
        }
    }

    func ask(_ line: String) throws -> String {
        try send(line)
        return try readLine()
    }
}

/// Waits for something another process is about to do; throws after 20 s.
func eventually(_ what: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicClock.now() + 20_000_000_000
    while try !condition() {
        if MonotonicClock.now() > deadline { throw TestFailure("\(what) did not come about within 20 s") }
        sched_yield()
    }
}

/// The error that `body` throws, if it is a system call's.
func systemError(_ body: () throws -> Void) -> SystemError? {
    do {
        try body()
        return nil
    } catch {
        return error as? SystemError
    }
}

extension String {
    func withCStringBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try Array(utf8).withUnsafeBytes(body)
    }
}

/// Compiled once per test process; removed at its exit.
private let toyPath: String = {
    let folder = TemporaryFolder()
    let path = folder.path + "/toy"
    compile(toyProgram, to: path, flags: ["-O1", "-pthread"])
    // Some toys run as another user.
    chmod(folder.path, 0o755)
    toyFolder = folder
    atexit { toyFolder?.remove() }
    return path
}()
nonisolated(unsafe) private var toyFolder: TemporaryFolder?

func compile(_ source: String, to path: String, flags: [String]) {
    do {
        let file = try OwnedDescriptor.open(path + ".c", O_WRONLY | O_CREAT | O_TRUNC)
        try source.withCStringBytes { try file.writeAll($0) }
        let status = try ChildProcess(["/usr/bin/gcc"] + flags + ["-o", path, path + ".c"]).waitForEnd()
        if status != 0 { fatalError("gcc failed with status \(status)") }
    } catch {
        fatalError("cannot compile: \(error)")
    }
}

/// A running toy and its memory.
struct Toy {
    let process: ChildProcess
    let address: UInt64
    let length: UInt64
    var pid: pid_t { process.pid }
    var pages: Int { Int(length) / trackedPageSize }
    var block: TrackedBlock { TrackedBlock(index: 0, address: address, length: length) }

    /// `kind` is anonymous, shared, file, sealed, huge or hugetlb.
    init(_ kind: String = "anonymous", mebibytes: Int = 4, unprivileged: Bool = false) throws {
        let user = unprivileged ? ["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] : []
        process = try ChildProcess(user + [toyPath, kind, String(mebibytes)])
        let fields = try process.readLine().split(separator: " ")
        guard fields.count == 2, let address = UInt64(fields[0], radix: 16), let length = UInt64(fields[1]) else {
            throw TestFailure("the toy said something else: \(fields)")
        }
        self.address = address
        self.length = length
    }

    func ask(_ line: String) throws -> String { try process.ask(line) }
}

/// What must be the same before and after: descriptors, mappings with their flags, signal state.
struct Trace: Equatable {
    var descriptors: [String]
    var mappings: [String]
    var signals: [String]

    init(of pid: pid_t) throws {
        descriptors = try Self.descriptors(of: pid)
        // Sizes change as a process runs, those of the stack and the heap in their addresses too; else addresses, rights
        // and flags stay.
        mappings = try Files.text(of: "/proc/\(pid)/smaps").split(separator: "\n").compactMap { line in
            if line.hasPrefix("VmFlags") { return String(line) }
            if line.hasSuffix("[stack]") || line.hasSuffix("[heap]") { return String(line.split(separator: " ").last!) }
            return line.first!.isHexDigit && line.contains("-") && !line.contains("kB") ? String(line) : nil
        }
        signals = try Files.text(of: "/proc/\(pid)/status").split(separator: "\n").filter {
            ["SigBlk", "SigIgn", "SigCgt", "TracerPid", "Seccomp", "Threads"].contains(String($0.prefix { $0 != ":" }))
        }.map(String.init)
    }

    /// True while a userfaultfd is registered anywhere.
    var isWatched: Bool {
        mappings.contains { $0.hasPrefix("VmFlags") && ($0 + " ").contains(" uw ") }
    }

    static func descriptors(of pid: pid_t) throws -> [String] {
        let path = "/proc/\(pid)/fd"
        guard let folder = opendir(path) else { throw TestFailure("cannot list \(path): errno \(errno)") }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasPrefix(".") { continue }
            var target = [CChar](repeating: 0, count: 4096)
            let length = readlink("\(path)/\(name)", &target, target.count)
            let file = String(decoding: target.prefix(max(0, length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            // What another test had open when the process was started may be removed meanwhile.
            let removed = " (deleted)"
            found.append(name + " " + (file.hasSuffix(removed) ? String(file.dropLast(removed.count)) : file))
        }
        return found.sorted()
    }
}

/// A cgroup of its own around one process, thawed and removed with its owner.
final class Freezer {
    private let path: String
    private let pid: pid_t

    private static let root: String? = {
        let mounts = (try? Files.text(of: "/proc/mounts")) ?? ""
        let line = mounts.split(separator: "\n").first { $0.contains(" cgroup2 ") }
        return line.map { String($0.split(separator: " ")[1]) }
    }()

    static var isAvailable: Bool { root.map { access($0, W_OK) == 0 } ?? false }

    init(of pid: pid_t) throws {
        self.pid = pid
        path = Self.root! + "/system-tests-\(pid)"
        guard mkdir(path, 0o700) == 0 else { throw TestFailure("cannot make \(path): errno \(errno)") }
        try write(String(pid), to: path + "/cgroup.procs")
    }

    deinit {
        try? thaw()
        // A group can be removed once it is empty.
        try? write(String(pid), to: Self.root! + "/cgroup.procs")
        rmdir(path)
    }

    func freeze() throws {
        try write("1", to: path + "/cgroup.freeze")
        try eventually("the freeze") { try Files.text(of: path + "/cgroup.events").contains("frozen 1") }
    }

    func thaw() throws { try write("0", to: path + "/cgroup.freeze") }

    private func write(_ text: String, to file: String) throws {
        let descriptor = try OwnedDescriptor.open(file, O_WRONLY)
        try text.withCStringBytes { try descriptor.writeAll($0) }
    }
}
