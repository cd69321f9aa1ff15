import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// The replies of one connection that have to wait. Each is sent by whoever settles its request, so that the guest, which waits for
/// it, waits for no further thread; those that the client does not take at once are left to a thread of this.
///
/// Made with the first of them. From then on several threads send, one reply at a time.
final class NBDLaterReplies: LaterReplies {
    /// When so many wait, no further request is read. QEMU's client has 16 under way at most.
    static let waitingMax = 64

    private struct Reply {
        var cookie: UInt64
        /// An error number of NBD's.
        var failure: UInt32
    }

    private struct Left {
        var replies: [Reply] = []
        var isEnding = false
    }

    private let threadName: String
    private let descriptor: Int32
    private let sink: any DiskSink
    private let counters: NBDCounters
    /// How many are not settled, or not sent.
    private let waiting = Monitor(0)
    private let left: Monitor<Left>
    private let sending = Mutex(())
    private let thread = Mutex<NamedThread?>(nil)

    /// Borrows the descriptor: the caller keeps it open until `end` has returned.
    init(threadName: String, sink: any DiskSink, counters: NBDCounters, borrowing descriptor: Int32) {
        self.threadName = threadName
        self.descriptor = descriptor
        self.sink = sink
        self.counters = counters
        var empty = Left()
        empty.replies.reserveCapacity(Self.waitingMax)
        left = Monitor(empty)
    }

    /// Waits while too many wait already.
    func push(cookie: UInt64, _ ticket: DiskTicket) {
        waiting.take { waiting -> Void? in
            guard waiting < Self.waitingMax else { return nil }
            waiting += 1
            return ()
        }
        sink.answer(ticket, cookie, to: self)
    }

    func settle(_ cookie: UInt64, _ failure: StorageError?) {
        let reply = Reply(cookie: cookie, failure: failure.map(counters.note) ?? NBD.Failure.none)
        let isSent = left.look { left in
            if left.replies.isEmpty, sending.withLockIfAvailable({ _ in sendNow(reply) }) == true { return true }
            left.replies.append(reply)
            return false
        }
        if isSent { waiting.change { $0 -= 1 } } else { leave() }
    }

    /// What is left has a thread from here on.
    private func leave() {
        let hasThread = thread.withLock { thread in
            if thread == nil { thread = try? NamedThread.start(threadName) { [self] in sendLeft() } }
            return thread != nil
        }
        guard !hasThread else { return left.changeForOne { _ in } }
        // Without its replies the client would wait for ever.
        shutdown(descriptor, Int32(SHUT_RDWR))
        let count = left.look { left in
            defer { left.replies = [] }
            return left.replies.count
        }
        waiting.change { $0 -= count }
    }

    /// Sends a reply that did not have to wait.
    func send(_ reply: UnsafeRawBufferPointer) throws(SystemError) {
        try sending.withLock { (_) throws(SystemError) in try NBDSocket.send(reply, to: descriptor) }
    }

    /// Waits until all that waits was answered, and ends the thread.
    func end() {
        waiting.await { $0 == 0 }
        left.change { $0.isEnding = true }
        guard let thread = thread.withLock({ $0.take() }) else { return }
        thread.join()
    }

    // MARK: -

    /// False when the client takes nothing at present. One that has hung up hears nothing any more.
    private func sendNow(_ reply: Reply) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: NBD.replySize, alignment: 8) { bytes in
            bytes.putReply(reply.failure, to: reply.cookie)
            let sent = rml_send_both(descriptor, bytes.baseAddress!, bytes.count, nil, 0, false)
            if sent == -Int(EAGAIN) || sent == -Int(EINTR) { return false }
            if sent > 0 { try? NBDSocket.send(UnsafeRawBufferPointer(rebasing: bytes[sent...]), to: descriptor) }
            return true
        }
    }

    private func sendLeft() {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: NBD.replySize, alignment: 8)
        defer { bytes.deallocate() }
        while let reply = nextLeft() {
            bytes.putReply(reply.failure, to: reply.cookie)
            try? send(UnsafeRawBufferPointer(bytes))
            waiting.change { $0 -= 1 }
        }
    }

    /// Nil once the conversation is over.
    private func nextLeft() -> Reply? {
        left.take { left -> Reply?? in
            if !left.replies.isEmpty { return left.replies.removeFirst() }
            return left.isEnding ? .some(nil) : nil
        }
    }
}
