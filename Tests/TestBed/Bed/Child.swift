import CLinux
import Foundation
import Synchronization

/// A process that the bed started: killed by its id only while it is known not to be reaped, its output in files.
public final class Child: Sendable {
    /// How a process ended.
    public enum Exit: Equatable, Sendable {
        case code(Int32)
        case signal(Int32)

        /// As a shell tells it.
        public var status: Int32 {
            switch self {
            case .code(let code): code
            case .signal(let number): 128 + number
            }
        }
    }

    public let name: String
    public let pid: pid_t
    /// Files that hold what the process wrote.
    public let outputPath: String
    public let errorPath: String
    private let state = Mutex<Exit?>(nil)

    /// Starts `command` (the program found by `PATH`) in a session of its own, with no input and none of this process's descriptors.
    /// - Parameter input: a descriptor that becomes its standard input instead of `/dev/null`.
    public init(
        _ command: [String], name: String, logs: String, environment: [String: String] = [:],
        input: Int32? = nil
    ) throws(BedError) {
        self.name = name
        outputPath = "\(logs)/\(name).out"
        errorPath = "\(logs)/\(name).err"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        let flags = O_WRONLY | O_CREAT | O_APPEND
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, flags, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, errorPath, flags, 0o644)
        // A socket of this process's that lived on in it (NIO's are not close-on-exec) would not be closed for whoever is at
        // its other end. Foundation's `Process` lists what is open before it starts, and so hands on what is opened meanwhile.
        _ = rml_spawn_close_from(&actions, 3)

        // The parent may block or ignore signals (a test runner does); the child must start with none of that.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let session = Int16(0x80)  // POSIX_SPAWN_SETSID
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF) | session)

        var variables = ProcessInfo.processInfo.environment
        variables.merge(environment) { $1 }
        var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
        var settings = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for word in words + settings { free(word) } }
        var started: pid_t = 0
        let status = posix_spawnp(&started, command[0], &actions, &attributes, &words, &settings)
        guard status == 0 else {
            throw BedError("\(command[0]) does not start (\(String(cString: strerror(status)))); is it installed?")
        }
        pid = started
        let reaper = Thread { [self] in reap() }
        reaper.stackSize = 256 << 10
        reaper.name = "reap \(name)"
        reaper.start()
    }

    private func reap() {
        var information = siginfo_t()
        while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        state.withLock { state in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
            state = status & 0x7f == 0 ? .code((status >> 8) & 0xff) : .signal(status & 0x7f)
        }
    }

    public var exit: Exit? { state.withLock { $0 } }
    public var isRunning: Bool { exit == nil }

    /// Sends a signal, unless the process is over.
    public func kill(_ signal: Int32 = SIGKILL) {
        state.withLock { if $0 == nil { _ = Glibc.kill(pid, signal) } }
    }

    /// Waits for the end of the process.
    @discardableResult
    public func wait(within limit: Duration = .seconds(30)) async throws -> Exit {
        try await eventually("the end of \(name) (pid \(pid))", within: limit) { exit }
    }

    /// Kills the process and waits until it is gone.
    public func killAndWait() async throws {
        kill()
        try await wait()
    }

    public var output: String { Self.text(of: outputPath) }
    public var errors: String { Self.text(of: errorPath) }

    private static func text(of path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }

    /// What a command that ran to its end left.
    public struct Outcome: Sendable {
        public var exit: Exit
        public var output: String
        public var errors: String
    }

    /// Runs a short command to its end on the calling thread; one that takes longer than `limit` is killed, which is an
    /// error.
    public static func outcome(of command: [String], limit: Duration = .seconds(120)) throws(BedError) -> Outcome {
        let logs = try TemporaryDirectory("run")
        defer { logs.remove() }
        let child = try Child(command, name: "command", logs: logs.path)
        let end = ContinuousClock.now + limit
        while true {
            if let exit = child.exit { return Outcome(exit: exit, output: child.output, errors: child.errors) }
            guard ContinuousClock.now < end else {
                child.kill()
                throw BedError(
                    "`\(command.joined(separator: " "))` took longer than \(limit): \(child.errors)\(child.output)")
            }
            usleep(500)
        }
    }

    /// As `outcome(of:limit:)`.
    /// - Returns: its standard output. A code other than 0 is an error that carries what it wrote to standard error.
    @discardableResult
    public static func run(_ command: [String], limit: Duration = .seconds(120)) throws(BedError) -> String {
        let outcome = try outcome(of: command, limit: limit)
        guard outcome.exit == .code(0) else {
            let words = (outcome.errors + outcome.output).trimmingCharacters(in: .whitespacesAndNewlines)
            throw BedError("`\(command.joined(separator: " "))` failed: \(words)")
        }
        return outcome.output
    }
}

/// A directory with a name that no other run uses. Its owner removes it; where the owner was killed, the next run does.
public struct TemporaryDirectory: Sendable {
    public let path: String

    public init(_ purpose: String, under parent: String = "/tmp") throws(BedError) {
        var template = Array("\(parent)/\(Leftovers.runName(0))-\(purpose).XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw BedError("no directory can be made in \(parent): \(String(cString: strerror(errno))).")
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public func remove() { try? FileManager.default.removeItem(atPath: path) }
}
