import Glibc
import LinuxSystem

/// A QEMU started by this process: in a session of its own, so that it outlives the agent's terminal and signals, with
/// its words in a log file.
///
/// The child is reaped here and nowhere else; until then its pid cannot be given to another process.
final class ChildProcess {
    let pid: pid_t
    let logPath: String
    private let handle: PidDescriptor
    /// False for one that an earlier run of the agent started: then somebody else reaps it.
    private let isOurs: Bool
    /// From waitpid, once it ended.
    private(set) var status: Int32?

    init(arguments: [String], workingDirectory: String, logPath: String) throws(StandbyError) {
        self.logPath = logPath
        isOurs = true
        let log = open(logPath, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o600)
        guard log >= 0 else { throw StandbyError(.log(path: logPath, errno: errno)) }
        defer { close(log) }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, log, 1)
        posix_spawn_file_actions_adddup2(&actions, log, 2)
        SpawnExtras.addChangeDirectory(&actions, workingDirectory)
        SpawnExtras.addCloseFrom(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let flags = Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF) | SpawnExtras.newSession
        posix_spawnattr_setflags(&attributes, Int16(flags))

        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        defer { for word in words { free(word) } }
        words.append(nil)
        var child: pid_t = 0
        let code = posix_spawnp(&child, arguments.first ?? "", &actions, &attributes, words, environ)
        guard code == 0 else { throw StandbyError(.spawn(program: arguments.first ?? "", errno: code)) }
        pid = child
        do throws(SystemError) {
            handle = try PidDescriptor(child)
        } catch {
            Glibc.kill(child, SIGKILL)
            waitpid(child, nil, 0)
            throw StandbyError(.system(call: "pidfd_open", errno: error.errno))
        }
    }

    /// Readable once QEMU has ended.
    var exitDescriptor: Int32 { handle.number }

    /// Waits until it ended, or `timeout` nanoseconds.
    func waitForExit(timeout: UInt64) {
        _ = try? handle.waitForExit(timeout: timeout)
    }

    /// Takes up a process that an earlier run of the agent started. The caller knows that `pid` is the right one.
    init(adopting pid: pid_t, logPath: String) throws(StandbyError) {
        self.pid = pid
        self.logPath = logPath
        isOurs = false
        do throws(SystemError) {
            handle = try PidDescriptor(pid)
        } catch {
            throw StandbyError(.died(how: "is gone (pid \(pid))", words: ""))
        }
    }

    /// Nil while it runs, else how it ended, for example `ended with status 1`.
    var ending: String? {
        guard isOurs else { return handle.hasExited() ? "ended" : nil }
        // Looked up first: where this process also traces that one, waitpid would take its stops for its end.
        if status == nil, handle.hasExited() {
            var value: Int32 = 0
            if waitpid(pid, &value, WNOHANG) == pid { status = value }
        }
        guard let status else { return nil }
        let signal = status & 0x7f
        return signal == 0 ? "ended with status \(status >> 8 & 0xff)" : "was ended by signal \(signal)"
    }

    /// Ends it at once and waits until it is gone.
    func kill() {
        guard ending == nil else { return }
        try? handle.kill()
        guard isOurs else { return waitForExit(timeout: 5_000_000_000) }
        var value: Int32 = 0
        while waitpid(pid, &value, 0) < 0 && errno == EINTR {}
        status = value
    }

    /// The end of its log as one line, without QEMU's own name before each.
    var lastWords: String {
        let descriptor = open(logPath, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        let size = lseek(descriptor, 0, SEEK_END)
        lseek(descriptor, max(0, size - 4096), SEEK_SET)
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return "" }
        let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").suffix(4)
        return lines.map { line in
            guard line.hasPrefix("qemu-system"), let colon = line.range(of: ": ") else { return String(line) }
            return String(line[colon.upperBound...])
        }.joined(separator: "; ")
    }
}

/// Parts of posix_spawn that the C library has (glibc 2.34) and whose declarations are hidden from Swift behind
/// _GNU_SOURCE: they are looked up by name at run time.
private enum SpawnExtras {
    /// POSIX_SPAWN_SETSID of spawn.h.
    static let newSession: Int32 = 0x80

    typealias Actions = UnsafeMutablePointer<posix_spawn_file_actions_t>

    static func addChangeDirectory(_ actions: Actions, _ path: String) {
        guard let symbol = dlsym(nil, "posix_spawn_file_actions_addchdir_np") else { return }
        typealias Function = @convention(c) (Actions, UnsafePointer<CChar>) -> Int32
        _ = unsafeBitCast(symbol, to: Function.self)(actions, path)
    }

    static func addCloseFrom(_ actions: Actions, _ first: Int32) {
        guard let symbol = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np") else { return }
        typealias Function = @convention(c) (Actions, Int32) -> Int32
        _ = unsafeBitCast(symbol, to: Function.self)(actions, first)
    }
}
