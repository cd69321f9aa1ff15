import Glibc
import LinuxSystem

/// A QEMU started by this process: in a session of its own, so that it outlives the agent's terminal and signals, with
/// its words in a log file.
final class LoggedProcess {
    private let child: ChildProcess
    private let logPath: String

    init(arguments: [String], workingDirectory: String, logPath: String) throws(StandbyError) {
        self.logPath = logPath
        let log = open(logPath, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0o600)
        guard log >= 0 else { throw StandbyError(.log(path: logPath, errno: errno)) }
        defer { close(log) }
        var plan = ChildProcess.Plan(arguments)
        plan.workingDirectory = workingDirectory
        plan.output = log
        plan.errorOutput = log
        plan.hasSession = true
        do throws(SystemError) {
            child = try ChildProcess(plan)
        } catch {
            throw StandbyError(.spawn(program: arguments.first ?? "", errno: error.errno))
        }
    }

    /// Takes up a process that an earlier run of the agent started. The caller knows that `pid` is the right one.
    init(adopting pid: pid_t, logPath: String) throws(StandbyError) {
        self.logPath = logPath
        do throws(SystemError) {
            child = try ChildProcess(adopting: pid)
        } catch {
            throw StandbyError(.died(how: "is gone (pid \(pid))", words: ""))
        }
    }

    var pid: pid_t { child.pid }

    /// Readable once QEMU has ended.
    var exitDescriptor: Int32 { child.exitDescriptor }

    /// Waits until it ended, or `timeout` nanoseconds.
    func waitForExit(timeout: UInt64) { child.waitForExit(timeout: timeout) }

    /// Nil while it runs, else how it ended, for example `ended with status 1`.
    var ending: String? { child.ending?.description }

    /// Ends it at once and waits until it is gone.
    func kill() { child.kill() }

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
