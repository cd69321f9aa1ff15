import LinuxSystem
import Synchronization

/// The replies of one connection that have to wait, sent by a thread of their own in the order of their requests.
///
/// Made with the first of them. From then on both threads of the connection send, one reply at a time.
final class NBDLaterReplies: Sendable {
    /// When so many wait, no further request is read. QEMU's client has 16 under way at most.
    static let waitingMax = 64

    private struct Reply {
        var cookie: UInt64
        var ticket: DiskTicket
    }

    private struct State {
        var waiting: [Reply] = []
        var isEnding = false
    }

    private let descriptor: Int32
    private let sink: any DiskSink
    private let counters: NBDCounters
    private let state: Monitor<State>
    private let sending = Mutex(())
    private let thread = Mutex<NamedThread?>(nil)

    /// Starts the thread. Borrows the descriptor: the caller keeps it open until `end` has returned.
    init(
        threadName: String, sink: any DiskSink, counters: NBDCounters, borrowing descriptor: Int32
    ) throws(SystemError) {
        self.descriptor = descriptor
        self.sink = sink
        self.counters = counters
        var empty = State()
        empty.waiting.reserveCapacity(Self.waitingMax)
        state = Monitor(empty)
        var started: NamedThread? = try NamedThread.start(threadName) { [self] in run() }
        thread.withLock { $0 = started.take() }
    }

    /// Waits while too many wait already.
    func push(cookie: UInt64, _ ticket: DiskTicket) {
        state.wait { state -> Void? in
            guard state.waiting.count < Self.waitingMax else { return nil }
            state.waiting.append(Reply(cookie: cookie, ticket: ticket))
            return ()
        }
    }

    /// Sends a reply that did not have to wait.
    func send(_ reply: UnsafeRawBufferPointer) throws(SystemError) {
        try sending.withLock { (_) throws(SystemError) in try NBDSocket.send(reply, to: descriptor) }
    }

    /// Waits until all that waits was answered, and ends the thread.
    func end() {
        state.change { $0.isEnding = true }
        guard let thread = thread.withLock({ $0.take() }) else { return }
        thread.join()
    }

    // MARK: -

    private func run() {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: NBD.replySize, alignment: 8)
        defer { bytes.deallocate() }
        while let reply = next() {
            let failure = counters.outcome { () throws(StorageError) in try sink.wait(for: reply.ticket) }
            bytes.putReply(failure, to: reply.cookie)
            // A client that has hung up hears nothing any more; what the sink was given is waited for all the same.
            try? send(UnsafeRawBufferPointer(bytes))
        }
    }

    /// Nil once the conversation is over and nothing waits.
    private func next() -> Reply? {
        state.wait { state -> Reply?? in
            if !state.waiting.isEmpty { return state.waiting.removeFirst() }
            return state.isEnding ? .some(nil) : nil
        }
    }
}
