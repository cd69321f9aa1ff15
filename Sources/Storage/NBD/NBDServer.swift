/// The disks of a VM as its replication sees them: an NBD server that QEMU mirrors to, images at the standby with writes
/// staged by epoch, and what must not be copied again.
///
/// Owns the sockets and threads of the NBD conversations, the images, and the qemu-nbd processes that open images which
/// are not raw. May call System and Model. Upholds: the guest sees a write complete only after the sink has taken it;
/// the image changes only by whole committed epochs (after the first copy); an image is written by one program at a time.

import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Serves one disk over NBD (fixed new-style, simple replies) to any number of connections up to `connectionsMax`, each
/// on a thread of its own, and on a second one where replies have to wait.
///
/// Tested with QEMU's client (blockdev-add, qemu-io, qemu-img). Reads, writes, flush, trim, write-zeroes, cache, FUA;
/// block sizes 1 / 4096 / 32 MiB. Buffers belong to the connection; serving a request allocates nothing.
public final class NBDServer: Sendable {
    public struct Export: Sendable, Hashable {
        /// What a client asks for; at most 4096 bytes.
        public var name: String
        /// Passed to the sink with every call.
        public var disk: UInt16
        /// In bytes.
        public var size: UInt64

        public init(name: String, disk: UInt16, size: UInt64) {
            self.name = name
            self.disk = disk
            self.size = size
        }
    }

    /// More clients than this at once are hung up on.
    public static let connectionsMax = 16

    public let export: Export
    private let threadName: String
    private let counters: NBDCounters
    /// One connection from the greeting to its end, of a descriptor that is borrowed.
    private let conversation: @Sendable (Int32) throws(NBDConversation.Ending) -> Void

    private final class Connection: Sendable {
        let descriptor: OwnedDescriptor
        let thread = Mutex<NamedThread?>(nil)
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
        func hangUp() { shutdown(descriptor.number, Int32(SHUT_RDWR)) }
        func join() {
            guard let thread = thread.withLock({ $0.take() }) else { return }
            thread.join()
        }
    }

    private struct State {
        var connections: [Connection] = []
        var listeners: [Connection] = []
        var paths: [String] = []
        var stopped = false
    }
    private let state = Mutex(State())

    /// `threadName` (15 bytes count) names the threads that serve; nothing runs before `listen` or `serve`.
    public convenience init(_ export: Export, threadName: String, sink: any DiskSink) {
        let counters = NBDCounters()
        self.init(export, threadName: threadName, counters) { (descriptor) throws(NBDConversation.Ending) in
            var conversation = NBDConversation(
                export, sink: sink, counters: counters, threadName: threadName, borrowing: descriptor)
            try conversation.run()
        }
    }

    init(
        _ export: Export, threadName: String, _ counters: NBDCounters = NBDCounters(),
        conversation: @escaping @Sendable (Int32) throws(NBDConversation.Ending) -> Void
    ) {
        precondition(export.name.utf8.count <= NBD.nameMax, "an export name has at most \(NBD.nameMax) bytes")
        self.export = export
        self.threadName = threadName
        self.counters = counters
        self.conversation = conversation
    }

    /// Accepts connections at a unix socket until `stop`. A socket file that nobody listens at any more is replaced.
    public func listen(at path: String, mode: mode_t = 0o600) throws(StorageError) {
        let listener: Connection
        do throws(SystemError) {
            listener = Connection(try Self.bind(path))
            if chmod(path, mode) != 0 { throw SystemError(operation: "set the mode of", errno: errno, subject: path) }
        } catch {
            throw .cannotStart(what: "the NBD server at \(path)", reason: "\(error)")
        }
        try add(listener, path: path) { [self] in acceptAll(listener) }
    }

    /// Serves one stream socket that is connected already, on a thread of its own, and returns at once.
    public func serve(_ socket: consuming OwnedDescriptor) throws(StorageError) {
        let connection = Connection(socket)
        try add(connection, path: nil) { [self] in converse(connection) }
    }

    public var statistics: NBDStatistics {
        counters.snapshot(connections: state.withLock { $0.connections.count })
    }

    /// Hangs up on all clients and waits until no sink call is under way and none will come. Must not be called from a
    /// sink call; a sink that blocks, or lets requests wait, must be let go first. Idempotent.
    public func stop() {
        let ended = state.withLock { state in
            state.stopped = true
            for path in state.paths { unlink(path) }
            state.paths = []
            let all = state.listeners + state.connections
            for connection in all { connection.hangUp() }
            (state.listeners, state.connections) = ([], [])
            return all
        }
        for connection in ended { connection.join() }
    }

    // MARK: -

    private static func bind(_ path: String) throws(SystemError) -> OwnedDescriptor {
        do throws(SystemError) {
            return try LocalSocket.listen(at: path)
        } catch {
            // Left behind by an agent that was killed, if nobody answers.
            guard error.errno == EADDRINUSE else { throw error }
            do throws(SystemError) {
                _ = try LocalSocket.connect(to: path)
            } catch let probe {
                guard probe.errno == ECONNREFUSED else { throw error }
                try Files.remove(path)
                return try LocalSocket.listen(at: path)
            }
            throw error
        }
    }

    private func add(_ connection: Connection, path: String?, _ body: @escaping @Sendable () -> Void)
        throws(StorageError)
    {
        // With the lock held until the thread's handle is stored, so that `stop` finds all to join.
        let failure = state.withLock { state -> StorageError? in
            if state.stopped { return .unavailable("the NBD server of \(export.name) is stopped") }
            if path == nil, state.connections.count >= Self.connectionsMax {
                return .unavailable(
                    "the NBD server of \(export.name) has \(Self.connectionsMax) connections already")
            }
            do throws(SystemError) {
                var thread: NamedThread? = try NamedThread.start(threadName, body)
                connection.thread.withLock { $0 = thread.take() }
            } catch {
                return .cannotStart(what: "a thread of the NBD server of \(export.name)", reason: "\(error)")
            }
            if let path {
                state.listeners.append(connection)
                state.paths.append(path)
            } else {
                state.connections.append(connection)
            }
            return nil
        }
        if let failure { throw failure }
    }

    private func acceptAll(_ listener: Connection) {
        while !state.withLock({ $0.stopped }) {
            do throws(SystemError) {
                let connection = Connection(try LocalSocket.accept(listener.descriptor))
                // Refused when there are too many; dropping the descriptor hangs up.
                try? add(connection, path: nil) { [self] in converse(connection) }
            } catch {
                switch error.errno {
                case ECONNABORTED: continue
                case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                    // Passes when something else is closed; the client waits in the backlog.
                    rml_sleep_until(rml_monotonic() + 100_000_000)
                default: return
                }
            }
        }
    }

    private func converse(_ connection: Connection) {
        do throws(NBDConversation.Ending) {
            try conversation(connection.descriptor.number)
        } catch {
            switch error {
            case .brokenByClient(let reason):
                counters.broken.add(1, ordering: .relaxed)
                counters.lastFailure.withLock { $0 = reason }
            case .socket: break  // The client is gone, or `stop` hung up.
            }
        }
        connection.hangUp()
        state.withLock { state in state.connections.removeAll { $0 === connection } }
    }
}
