/// Why a standby's QEMU could not be started, does not fit, or could not be resumed.
public struct StandbyError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        /// The program could not be executed.
        case spawn(program: String, errno: Int32)
        case log(path: String, errno: Int32)
        /// QEMU ended by itself: how, and what it said last.
        case died(how: String, words: String)
        case monitor(QMPError)
        /// It runs and is another machine than the primary's: what differs.
        case mismatch(String)
        case stream(ResumeStreamError, words: String)
        /// The stream was taken and the guest does not run.
        case notRunning(status: String, words: String)
        case timedOut(String)
        /// It was given a state before.
        case spent
        /// Another QEMU listens at the monitor path and is not a waiting standby.
        case occupied(path: String, pid: Int32, status: String)
        case system(call: String, errno: Int32)
    }

    public var reason: Reason

    public init(_ reason: Reason) { self.reason = reason }

    public var description: String {
        switch reason {
        case .spawn(let program, let code):
            "the standby's QEMU could not be started: \(program): \(SystemMessage.text(code))"
        case .log(let path, let code):
            "the log of the standby's QEMU cannot be written: \(path): \(SystemMessage.text(code))"
        case .died(let how, let words):
            "the standby's QEMU \(how): "
                + (words.isEmpty ? "it said nothing" : "QEMU said: \(words)")
        case .monitor(let error): "the standby's QEMU cannot be controlled: \(error)"
        case .mismatch(let what):
            "the standby's QEMU is not the same machine as the primary's: \(what);"
                + " correct its command line with the VM's standby overrides"
        case .stream(let error, let words): "\(error)" + (words.isEmpty ? "" : ": QEMU said: \(words)")
        case .notRunning(let status, let words):
            "the standby's QEMU took the state and is “\(status)” instead of running"
                + (words.isEmpty ? "" : ": QEMU said: \(words)")
        case .occupied(let path, let pid, let status):
            "a QEMU already listens at \(path) (process \(pid), “\(status)”) and will not be touched:"
                + " end that VM first, or give this one another run directory"
        case .spent: "the standby's QEMU was given a state before and did not take it: it is of no further use"
        case .timedOut(let what): "the standby's QEMU did not get ready in time: \(what)"
        case .system(let call, let code): "\(call) failed: \(SystemMessage.text(code))"
        }
    }
}
