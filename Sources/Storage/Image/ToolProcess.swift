import LinuxSystem

/// A program that the agent runs beside itself, with its error output kept to be shown. It ends with this object.
final class ToolProcess: Sendable {
    private let child: ChildProcess
    private let errorOutput: OwnedDescriptor

    /// Starts `arguments[0]`, looked for in PATH.
    init(_ arguments: [String]) throws(SystemError) {
        errorOutput = try Files.memory(named: "stderr-of-\(arguments[0])")
        var plan = ChildProcess.Plan(arguments)
        plan.errorOutput = errorOutput.number
        child = try ChildProcess(plan)
    }

    deinit { child.kill() }

    var pid: Int32 { child.pid }

    /// Waits at most `timeout` nanoseconds (nil: for as long as it takes) for the end; true when it ended.
    func waitForExit(timeout: UInt64?) -> Bool { child.waitForExit(timeout: timeout) }

    func signal(_ number: Int32) { child.signal(number) }

    /// True when it ended by itself with exit code 0.
    var succeeded: Bool { child.ending == .code(0) }

    /// What it wrote to its error output so far, on one line, at most 2000 bytes.
    var words: String {
        Files.text(in: errorOutput, limit: 2000).split(separator: "\n").joined(separator: "; ")
    }
}
