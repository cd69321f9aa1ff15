import Glibc
import LinuxSystem
import Synchronization

/// A program that the agent runs beside itself: no input, its error output kept to be shown.
final class ToolProcess: Sendable {
    let pid: pid_t
    private let handle: PidDescriptor
    private let errorOutput: OwnedDescriptor
    /// The wait status, once the process was reaped.
    private let status = Mutex<Int32?>(nil)

    /// Starts `arguments[0]`, looked for in PATH. It gets a process group of its own, so that a terminal's ^C does not
    /// end it before the agent has said its goodbye.
    init(_ arguments: [String]) throws(SystemError) {
        errorOutput = try Files.memory(named: "stderr-of-\(arguments[0])")
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, errorOutput.number, 2)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigaddset(&signals, SIGPIPE)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let failure = posix_spawnp(&pid, arguments[0], &actions, &attributes, &words, environ)
        if failure != 0 { throw SystemError(operation: "start", errno: failure, subject: arguments[0]) }
        self.pid = pid
        // Not reaped by anyone but this object, so the number still means this process.
        handle = try PidDescriptor(pid)
    }

    deinit {
        guard status.withLock({ $0 == nil }) else { return }
        kill(pid, SIGKILL)
        var ignored: Int32 = 0
        while waitpid(pid, &ignored, 0) < 0, errno == EINTR {}
    }

    /// Waits at most `timeout` nanoseconds (nil: for as long as it takes) for the end; true when it ended.
    func waitForExit(timeout: UInt64?) -> Bool {
        guard (try? handle.waitForExit(timeout: timeout)) ?? false else { return false }
        status.withLock { status in
            guard status == nil else { return }
            var value: Int32 = 0
            while waitpid(pid, &value, 0) < 0, errno == EINTR {}
            status = value
        }
        return true
    }

    func signal(_ number: Int32) { try? handle.signal(number) }

    /// True when it ended by itself with exit code 0.
    var succeeded: Bool { status.withLock { $0 == 0 } }

    /// What it wrote to its error output so far, on one line, at most 2000 bytes.
    var words: String {
        var bytes = [UInt8](repeating: 0, count: 2000)
        let count = bytes.withUnsafeMutableBytes { pread(errorOutput.number, $0.baseAddress, $0.count, 0) }
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        return text.split(separator: "\n").joined(separator: "; ")
    }
}
