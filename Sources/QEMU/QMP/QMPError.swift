/// Why the monitor of a QEMU could not be used, as one sentence with the way out.
public struct QMPError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        case noSuchPath
        case notASocket
        case pathTooLong
        case permission
        /// The socket file is there and nobody listens.
        case refused
        /// Connected (or queued), and no greeting came: QEMU serves one client per monitor.
        case held
        /// What was said first, shortened.
        case notQMP(String)
        /// QEMU closed the connection: it ended, or another part of it shut the monitor.
        case closed
        case timedOut(command: String)
        /// QEMU answered a command with an error.
        case qemu(command: String, class: String, description: String)
        case malformed(String)
        case lineTooLong
        /// After a reconnect another process answered.
        case otherProcess(was: Int32, isNow: Int32)
        case system(call: String, errno: Int32)
    }

    public var path: String
    public var reason: Reason

    public init(path: String, reason: Reason) {
        self.path = path
        self.reason = reason
    }

    /// True when the connection is of no further use.
    public var isFatal: Bool {
        switch reason {
        case .timedOut, .qemu: false
        default: true
        }
    }

    public var description: String {
        switch reason {
        case .noSuchPath:
            "there is no QMP socket at \(path): give the path of QEMU's own -qmp unix:PATH,server=on option"
        case .notASocket:
            "\(path) is not a socket: give the path of QEMU's own -qmp unix:PATH,server=on option"
        case .pathTooLong:
            "the QMP path \(path) is longer than a unix socket address can be (107 bytes): use a shorter one"
        case .permission:
            "no permission to connect to the QMP socket \(path): run the agent as root or as QEMU's user"
        case .refused:
            "nobody listens on the QMP socket \(path): the QEMU that made it is gone"
        case .held:
            "the QMP socket \(path) gives no greeting: another client holds this monitor, and QEMU serves one at a time;"
                + " end that client or start QEMU with a second -qmp option for Romulus"
        case .notQMP(let said):
            "what listens on \(path) is not a QMP monitor (it said “\(said)”): give the path of a -qmp socket"
        case .closed:
            "QEMU closed the monitor connection \(path)"
        case .timedOut(let command):
            "QEMU did not answer \(command) on \(path) in time"
        case .qemu(let command, let name, let text):
            "QEMU refused \(command): QEMU said: \(text)\(name == "GenericError" ? "" : " (\(name))")"
        case .malformed(let text):
            "QEMU's monitor \(path) sent what is not QMP: \(text)"
        case .lineTooLong:
            "QEMU's monitor \(path) sent a line of more than \(QMPConnection.lineMax >> 20) MiB"
        case .otherProcess(let was, let now):
            "the QMP socket \(path) now belongs to process \(now) instead of \(was): the VM was restarted"
        case .system(let call, let code):
            "\(call) on the QMP socket \(path) failed: \(SystemMessage.text(code))"
        }
    }
}
