import Glibc
import Hypervisor

/// A client of one QEMU monitor (QMP). Blocking; used by one thread at a time, hence not Sendable: hand it over whole.
///
/// Commands carry ids. Replies to `{}` are recognised by their bytes, so that the path of an epoch builds no JSON tree.
/// Events are kept, oldest first, until they are taken (at most `eventsMax`; beyond that the oldest are dropped and
/// counted).
public final class QMPConnection {
    /// A line from QEMU longer than this ends the connection.
    public static let lineMax = 16 << 20
    public static let eventsMax = 4096

    public let path: String
    public private(set) var version: QEMUVersion
    /// The process that made the monitor socket: QEMU itself.
    public private(set) var peer: ProcessIdentity
    /// For `poll`: readable when an event or a reply has come. Owned by the connection.
    public private(set) var descriptor: Int32
    public private(set) var eventsDropped = 0

    enum Reply {
        case empty
        case value(JSONValue)
        case failure(class: String, description: String)
    }
    struct Waiting {
        var id: UInt64
        var command: String
        var reply: Reply?
    }

    var lastID: UInt64 = 0
    /// Commands sent and not yet awaited, oldest first.
    var waiting: [Waiting] = []
    var outgoing: [UInt8] = []
    private var events: [QMPEvent] = []
    private var input = LineBuffer()

    /// Connects, checks the greeting and negotiates; `timeout` bounds the whole.
    public init(path: String, timeout: Duration = .seconds(3)) throws(QMPError) {
        self.path = path
        let deadline = ContinuousClock.now + timeout
        descriptor = try Self.connect(path, until: deadline)
        version = QEMUVersion(major: 0, minor: 0, micro: 0, package: "")
        peer = ProcessIdentity(pid: 0, uid: 0, gid: 0)
        try negotiate(until: deadline)
    }

    deinit { close() }

    /// True until QEMU or this side closed it.
    public var isOpen: Bool { descriptor >= 0 }

    /// Closes now; every later call throws `closed`.
    public func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
        waiting.removeAll()
    }

    /// Connects anew to the same path. Replies that were due are lost; taken events stay taken. Throws `otherProcess`
    /// when it is no longer the same QEMU.
    public func reconnect(timeout: Duration = .seconds(3)) throws(QMPError) {
        close()
        input = LineBuffer()
        let deadline = ContinuousClock.now + timeout
        let before = peer.pid
        descriptor = try Self.connect(path, until: deadline)
        try negotiate(until: deadline)
        if peer.pid != before {
            close()
            throw error(.otherProcess(was: before, isNow: peer.pid))
        }
    }

    func error(_ reason: QMPError.Reason) -> QMPError { QMPError(path: path, reason: reason) }

    /// Ends the connection and gives the error to throw.
    func fatal(_ reason: QMPError.Reason) -> QMPError {
        close()
        return error(reason)
    }

    // MARK: Commands

    /// Runs one command and returns the value of its `return`.
    ///
    /// `descriptors` travel with the command (`add-fd`, `getfd`); QEMU gets copies. A command that timed out may still
    /// be carried out by QEMU; its late answer is passed over.
    @discardableResult
    public func execute(
        _ name: String, _ arguments: JSONValue? = nil, timeout: Duration = .seconds(10), descriptors: [Int32] = []
    ) throws(QMPError) -> JSONValue {
        let id = try send(QMPCommand(name, arguments), descriptors: descriptors)
        return try awaitValue(id, timeout: timeout)
    }

    /// Runs a command of the human monitor and returns what it printed, without carriage returns.
    public func monitor(_ line: String, timeout: Duration = .seconds(10)) throws(QMPError) -> String {
        let text = try execute("human-monitor-command", ["command-line": .string(line)], timeout: timeout)
        guard let text = text.string else { throw fatal(.malformed("human-monitor-command gave no text")) }
        return String(decoding: text.utf8.filter { $0 != 0x0d }, as: UTF8.self)
    }

    // MARK: Events

    /// All events that have come, oldest first, without waiting.
    public func takeEvents() throws(QMPError) -> [QMPEvent] {
        while try receive(until: nil) {}
        defer { events.removeAll() }
        return events
    }

    /// The next event, or nil when none came within `timeout`.
    public func waitForEvent(timeout: Duration) throws(QMPError) -> QMPEvent? {
        try waitForEvent(timeout: timeout) { _ in true }
    }

    /// The next event for which `matching` is true, or nil when none came within `timeout`; others stay in the queue.
    public func waitForEvent(timeout: Duration, where matching: (QMPEvent) -> Bool) throws(QMPError) -> QMPEvent? {
        let deadline = ContinuousClock.now + timeout
        var looked = 0
        while true {
            while looked < events.count {
                if matching(events[looked]) { return events.remove(at: looked) }
                looked += 1
            }
            let dropped = eventsDropped
            guard try receive(until: deadline) else { return nil }
            looked = max(0, looked - (eventsDropped - dropped))
        }
    }

    // MARK: Receiving

    /// Takes in one line; false when none came until `deadline` (nil: do not wait).
    func receive(until deadline: ContinuousClock.Instant?) throws(QMPError) -> Bool {
        guard let line = try nextLine(until: deadline) else { return false }
        if let id = SimpleReply.id(line) {
            settle(id, .empty)
            return true
        }
        if let event = SimpleEvent.parse(line) {
            keep(event)
            return true
        }
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(parsing: line)
        } catch {
            throw fatal(.malformed(error.description))
        }
        if let name = value["event"]?.string {
            let seconds = value["timestamp"]?["seconds"]?.int64 ?? 0
            let micro = value["timestamp"]?["microseconds"]?.int64 ?? 0
            keep(QMPEvent(name: name, data: value["data"] ?? .emptyObject, timestamp: seconds &* 1_000_000 &+ micro))
        } else if let failure = value["error"] {
            let reply = Reply.failure(
                class: failure["class"]?.string ?? "GenericError", description: failure["desc"]?.string ?? "no reason")
            if let id = value["id"]?.uint64 {
                settle(id, reply)
            } else if !waiting.isEmpty {
                // QEMU could not read the command, its id included; commands are answered in order.
                waiting[0].reply = reply
            }
        } else if let result = value["return"], let id = value["id"]?.uint64 {
            settle(id, result.isEmpty ? .empty : .value(result))
        }
        return true
    }

    private func keep(_ event: QMPEvent) {
        if events.count >= Self.eventsMax {
            events.removeFirst()
            eventsDropped += 1
        }
        events.append(event)
    }

    /// Replies nobody waits for any more (their command timed out) are passed over.
    private func settle(_ id: UInt64, _ reply: Reply) {
        for index in waiting.indices where waiting[index].id == id { waiting[index].reply = reply }
    }

    private func nextLine(until deadline: ContinuousClock.Instant?) throws(QMPError) -> UnsafeRawBufferPointer? {
        while true {
            if let line = input.takeLine() { return line }
            guard descriptor >= 0 else { throw error(.closed) }
            guard let room = input.room(max: Self.lineMax) else { throw fatal(.lineTooLong) }
            let count = recv(descriptor, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                input.filled(count)
                continue
            }
            let code = errno
            if count == 0 || code == ECONNRESET || code == EPIPE { throw fatal(.closed) }
            if code == EINTR { continue }
            guard code == EAGAIN else { throw fatal(.system(call: "recv", errno: code)) }
            guard let deadline, UnixSocket.wait(descriptor, for: Int32(POLLIN), until: deadline) else { return nil }
        }
    }

    // MARK: Connecting

    private static func connect(_ path: String, until deadline: ContinuousClock.Instant) throws(QMPError) -> Int32 {
        func error(_ reason: QMPError.Reason) -> QMPError { QMPError(path: path, reason: reason) }
        var info = stat()
        if stat(path, &info) != 0 {
            switch errno {
            case ENOENT, ENOTDIR: throw error(.noSuchPath)
            case EACCES: throw error(.permission)
            case ENAMETOOLONG: throw error(.pathTooLong)
            case let code: throw error(.system(call: "stat", errno: code))
            }
        }
        guard info.st_mode & S_IFMT == S_IFSOCK else { throw error(.notASocket) }
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, kind, 0)
        guard descriptor >= 0 else { throw error(.system(call: "socket", errno: errno)) }
        var failure: QMPError.Reason? = .held
        repeat {
            guard
                let code = UnixSocket.withAddress(path, { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno })
            else {
                failure = .pathTooLong
                break
            }
            switch code {
            case 0: failure = nil
            case EAGAIN, EINTR:
                // The queue of waiting clients is full: somebody holds the monitor and others wait.
                failure = .held
                _ = poll(nil, 0, 5)
                continue
            case ECONNREFUSED: failure = .refused
            case EACCES, EPERM: failure = .permission
            case ENOENT: failure = .noSuchPath
            case EPROTOTYPE: failure = .notQMP("a datagram socket")
            default: failure = .system(call: "connect", errno: code)
            }
            break
        } while ContinuousClock.now < deadline
        if let failure {
            _ = Glibc.close(descriptor)
            throw error(failure)
        }
        return descriptor
    }

    private func negotiate(until deadline: ContinuousClock.Instant) throws(QMPError) {
        peer = try peerIdentity()
        guard let line = try nextLine(until: deadline) else {
            throw fatal(input.isEmpty ? .held : .notQMP(input.preview))
        }
        guard let greeting = try? JSONValue(parsing: line), let monitor = greeting["QMP"],
            let version = QEMUVersion(monitor["version"])
        else { throw fatal(.notQMP(LineBuffer.preview(line))) }
        self.version = version
        let id = try send(QMPCommand("qmp_capabilities"))
        _ = try awaitValue(id, until: deadline)
    }

    private func peerIdentity() throws(QMPError) -> ProcessIdentity {
        // `struct ucred` is three 32-bit numbers: pid, uid, gid.
        var credentials: (Int32, UInt32, UInt32) = (0, 0, 0)
        var size = socklen_t(12)
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0, size == 12 else {
            throw fatal(.system(call: "getsockopt(SO_PEERCRED)", errno: errno))
        }
        return ProcessIdentity(pid: credentials.0, uid: credentials.1, gid: credentials.2)
    }
}
