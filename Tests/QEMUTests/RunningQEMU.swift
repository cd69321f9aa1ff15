import Glibc
import QEMU
import Testing

/// A directory of one test, removed with everything in it.
final class TestDirectory {
    let path: String

    init() {
        var template = Array("/tmp/romulus-qemu-test-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if let directory = opendir(path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { remove("\(path)/\(name)") }
            }
            closedir(directory)
        }
        _ = Glibc.remove(path)
    }

    func file(_ name: String, size: Int) throws -> String {
        let full = "\(path)/\(name)"
        let descriptor = open(full, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        try #require(descriptor >= 0 && ftruncate(descriptor, size) == 0)
        return full
    }
}

/// A stock QEMU as its owner would start it; ends with the object.
final class RunningQEMU {
    let directory: TestDirectory
    let pid: pid_t
    let monitorPath: String

    /// `-qmp` is added; the rest is the test's.
    init(_ arguments: [String], in directory: TestDirectory, name: String = "a") throws {
        self.directory = directory
        monitorPath = "\(directory.path)/\(name).qmp"
        let all = ["qemu-system-x86_64"] + arguments + ["-qmp", "unix:\(monitorPath),server=on,wait=off"]
        var words: [UnsafeMutablePointer<CChar>?] = all.map { strdup($0) }
        defer { for word in words { free(word) } }
        words.append(nil)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "\(directory.path)/\(name).out", O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var child: pid_t = 0
        try #require(posix_spawnp(&child, all[0], &actions, nil, words, environ) == 0)
        pid = child
    }

    deinit {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }

    /// Until every descriptor of it is closed; `deinit` reaps.
    func awaitEnd() {
        var info = siginfo_t()
        waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT)
    }

    /// Connects as soon as the monitor is there.
    func connect() throws -> QMPConnection {
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            do {
                return try QMPConnection(path: monitorPath, timeout: .seconds(10))
            } catch {
                guard [.noSuchPath, .refused].contains(error.reason), ContinuousClock.now < deadline else {
                    throw error
                }
                usleep(2000)
            }
        }
    }

    /// Bytes of QEMU's memory.
    func memory(at address: UInt64, count: Int) throws -> [UInt8] {
        try QEMUTests.memory(of: pid, at: address, count: count)
    }
}

func memory(of pid: pid_t, at address: UInt64, count: Int) throws -> [UInt8] {
    let descriptor = open("/proc/\(pid)/mem", O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: count)
    try #require(pread(descriptor, &bytes, count, off_t(address)) == count)
    return bytes
}

/// A whole file.
func contents(of path: String) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    let size = Int(lseek(descriptor, 0, SEEK_END))
    var bytes = [UInt8](repeating: 0, count: size)
    var done = 0
    while done < size {
        let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress! + done, size - done, off_t(done)) }
        try #require(count > 0)
        done += count
    }
    return bytes
}
