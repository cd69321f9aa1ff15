import CLinux
import Glibc
import Synchronization

/// A program that this process started, or that an earlier run of it did. It lives on when this object goes away.
///
/// One that was started is reaped here and nowhere else; until then its pid cannot be given to another process.
public final class ChildProcess: Sendable {
    /// What a program is started with. It gets no input, and none of this process's descriptors but those for its outputs.
    public struct Plan: Sendable {
        /// The program, which is looked for in PATH when it has no slash, and its arguments.
        public var arguments: [String]
        public var workingDirectory: String?
        /// All that it gets of one; nil: this process's own.
        public var environment: [String: String]?
        /// Where it writes; nil: what it writes is lost.
        public var output: Int32?
        public var errorOutput: Int32?
        /// It gets a session of its own, and so outlives the terminal; else a process group of its own. A terminal's ^C reaches
        /// neither.
        public var hasSession = false

        public init(_ arguments: [String]) { self.arguments = arguments }
    }

    /// How a process ended.
    public enum Ending: Hashable, Sendable, CustomStringConvertible {
        case code(Int32)
        case signal(Int32)
        /// Somebody else reaped it.
        case unknown

        public var description: String {
            switch self {
            case .code(let code): "ended with status \(code)"
            case .signal(let number): "was ended by signal \(number)"
            case .unknown: "ended"
            }
        }
    }

    public let pid: pid_t
    private let handle: PidDescriptor
    /// False for one that an earlier run started: then somebody else reaps it.
    private let isOurs: Bool
    /// From waitpid, once it was reaped.
    private let status = Mutex<Int32?>(nil)

    /// Starts it.
    public init(_ plan: Plan) throws(SystemError) {
        pid = try Spawning.start(plan)
        isOurs = true
        do throws(SystemError) {
            handle = try PidDescriptor(pid)
        } catch {
            Glibc.kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw error
        }
    }

    /// Takes up a process that an earlier run started. The caller knows that `pid` is the right one.
    public init(adopting pid: pid_t) throws(SystemError) {
        self.pid = pid
        isOurs = false
        handle = try PidDescriptor(pid)
    }

    /// Readable once it has ended.
    public var exitDescriptor: Int32 { handle.number }

    /// Waits until it ended, or `timeout` nanoseconds (nil: for as long as it takes); true when it ended.
    @discardableResult
    public func waitForExit(timeout: UInt64?) -> Bool { (try? handle.waitForExit(timeout: timeout)) ?? false }

    /// Nil while it runs.
    public var ending: Ending? {
        guard isOurs else { return handle.hasExited() ? .unknown : nil }
        return status.withLock { status in
            // Looked up first: where this process also traces that one, waitpid would take its stops for its end.
            if status == nil, handle.hasExited() {
                var value: Int32 = 0
                if waitpid(pid, &value, WNOHANG) == pid { status = value }
            }
            return status.map { value in
                let signal = value & 0x7f
                return signal == 0 ? .code(value >> 8 & 0xff) : .signal(signal)
            }
        }
    }

    public func signal(_ number: Int32) { try? handle.signal(number) }

    /// Ends it at once and waits until it is gone.
    public func kill() {
        guard ending == nil else { return }
        try? handle.kill()
        guard isOurs else {
            _ = waitForExit(timeout: 5_000_000_000)
            return
        }
        reap()
    }

    /// Ends it at once with all that it has started in its group, also when it has ended itself and `ending` was not asked for
    /// since. Only for one that this process started.
    public func killGroup() {
        guard isOurs, status.withLock({ $0 == nil }) else { return }
        Glibc.kill(-pid, SIGKILL)
        reap()
    }

    private func reap() {
        status.withLock { status in
            guard status == nil else { return }
            var value: Int32 = 0
            while waitpid(pid, &value, 0) < 0, errno == EINTR {}
            status = value
        }
    }
}

/// The call that starts a program.
private enum Spawning {
    static func start(_ plan: ChildProcess.Plan) throws(SystemError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        for (number, target) in [(1 as Int32, plan.output), (2, plan.errorOutput)] {
            if let target {
                posix_spawn_file_actions_adddup2(&actions, target, number)
            } else {
                posix_spawn_file_actions_addopen(&actions, number, "/dev/null", O_WRONLY, 0)
            }
        }
        if let directory = plan.workingDirectory { _ = rml_spawn_change_directory(&actions, directory) }
        _ = rml_spawn_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        let group = plan.hasSession ? rml_spawn_new_session() : Int32(POSIX_SPAWN_SETPGROUP)
        posix_spawnattr_setflags(
            &attributes, Int16(Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF) | group))

        var words = pointers(plan.arguments)
        var variables = pointers((plan.environment ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" })
        defer { for text in words + variables { free(text) } }
        let program = plan.arguments.first ?? ""
        var child: pid_t = 0
        var failure: Int32
        var attempts = 0
        repeat {
            // A program that was just written is busy for as long as some other child has its writer's descriptor.
            if attempts > 0 { MonotonicClock.sleep(until: MonotonicClock.now() + 10_000_000) }
            attempts += 1
            failure = variables.withUnsafeMutableBufferPointer { own in
                posix_spawnp(
                    &child, program, &actions, &attributes, &words,
                    plan.environment == nil ? environ : own.baseAddress)
            }
        } while failure == ETXTBSY && attempts <= 20
        if failure != 0 { throw SystemError(operation: "start", errno: failure, subject: program) }
        return child
    }

    /// Copies that end with none, as the kernel takes them; the caller frees them.
    private static func pointers(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] {
        texts.map { strdup($0) } + [nil]
    }
}
