import LinuxSystem
import Model
import Shipping
import Synchronization
import Wire

/// What the thread that verifies a replica's memory, the session's thread and the link have in common: the batch that is under
/// way. One verification of a VM goes on at a time.
///
/// The session's thread never waits here for the others: each holds the lock for some memory accesses only.
package final class MemoryVerification: Sendable {
    private struct State {
        /// The session whose replica is verified; `none` while nothing is.
        var session = SessionID.none
        /// What was read of the batch that is open.
        var runs: [PageRun] = []
        /// Its pages are still collected, or wait for the end of their epoch.
        var isOpen = false
        /// Nothing more is to come.
        var isFull = false
        /// The seal of its epoch began: nothing is added any more.
        var isTaken = false
        var written = WrittenPages()
        /// At which epoch the standby was asked.
        var asked: Epoch?
        var reply: Reply?
        var mending: [PageRun] = []
    }

    /// What the standby said: digests, or nil when it was at another epoch.
    private struct Reply {
        var digests: [UInt8]?
    }

    /// A batch that was asked about and answered.
    package struct Answer {
        package var epoch: Epoch
        package var digests: [UInt8]?
        package var written: WrittenPages
    }

    private let state = Mutex(State())
    private let isActive = Atomic<Bool>(false)
    /// Signalled when there is news for the thread that verifies.
    private let news: EventDescriptor

    /// The most pages that wait to be sent again.
    private static let mendingMax = 65_536

    package init() throws(SystemError) { news = try EventDescriptor() }

    // MARK: - The thread that verifies

    /// False while another verification goes on.
    package func begin(_ session: SessionID) -> Bool {
        let isMine = state.withLock { state in
            guard state.session == .none else { return false }
            state = State()
            state.session = session
            return true
        }
        if isMine { isActive.store(true, ordering: .releasing) }
        return isMine
    }

    package func end() {
        isActive.store(false, ordering: .releasing)
        state.withLock { $0 = State() }
    }

    /// From here on what is written counts for the batch that begins.
    package func open() {
        _ = news.take()
        state.withLock { state in
            state.runs.removeAll(keepingCapacity: true)
            (state.isOpen, state.isFull, state.isTaken) = (true, false, false)
            (state.asked, state.reply) = (nil, nil)
            state.written.removeAll()
        }
    }

    /// Adds pages that were read and digested. False when the batch was taken already: they belong to the next one.
    package func add(_ run: PageRun) -> Bool {
        state.withLock { state in
            guard state.isOpen, !state.isTaken else { return false }
            state.runs.append(run)
            return true
        }
    }

    /// Nothing more is added to the batch.
    package func close() { state.withLock { $0.isFull = true } }

    /// Waits for news, for `nanoseconds` at most, and returns the answer once it is there.
    package func awaitAnswer(_ nanoseconds: UInt64) -> Answer? {
        waitReadable([news.number], nanoseconds: nanoseconds)
        _ = news.take()
        return state.withLock { state in
            guard let reply = state.reply, let epoch = state.asked else { return nil }
            defer { state.written.removeAll() }
            return Answer(epoch: epoch, digests: reply.digests, written: state.written)
        }
    }

    /// Pages wait to be sent again.
    package var isMending: Bool { state.withLock { !$0.mending.isEmpty } }

    /// These pages travel again with the next epoch. Past a bound they do not.
    package func mend(_ pages: [MemoryVerdict.Page]) {
        state.withLock { state in
            for page in pages where state.mending.count < Self.mendingMax {
                state.mending.append(PageRun(block: page.block, first: page.number, count: 1))
            }
        }
    }

    // MARK: - The session's thread

    /// A batch that is read, or pages that are to be mended, wait for a checkpoint.
    package var isWaiting: Bool {
        guard isActive.load(ordering: .acquiring) else { return false }
        return state.withLock { $0.isOpen && $0.isFull && !$0.isTaken || !$0.mending.isEmpty }
    }

    /// A seal begins: no scan of its epoch is made before this. What was read so far belongs to that epoch.
    package func sealBegins() {
        guard isActive.load(ordering: .acquiring) else { return }
        state.withLock { state in
            if state.isOpen, !state.runs.isEmpty { state.isTaken = true }
        }
    }

    /// These pages were found written.
    package func note(_ runs: UnsafeBufferPointer<TrackedRun>) {
        guard isActive.load(ordering: .acquiring) else { return }
        state.withLock { if $0.isOpen { $0.written.insert(runs) } }
    }

    /// What the standby is to be asked behind the end of `epoch`, all of whose written pages were noted; nil when there is
    /// nothing to ask.
    package func question(at epoch: Epoch, in session: SessionID) -> VerifyQuestion? {
        guard isActive.load(ordering: .acquiring) else { return nil }
        return state.withLock { state in
            guard state.isOpen, state.isTaken, state.session == session else { return nil }
            state.isOpen = false
            state.asked = epoch
            return VerifyQuestion(session: session, runs: state.runs)
        }
    }

    /// Pages that are to travel again, at most `count`; nil when there are none.
    package func takeMending(_ count: Int) -> [PageRun]? {
        guard isActive.load(ordering: .acquiring) else { return nil }
        return state.withLock { state in
            guard !state.mending.isEmpty else { return nil }
            let taken = Array(state.mending.prefix(count))
            state.mending.removeFirst(taken.count)
            return taken
        }
    }

    // MARK: - The link

    /// The standby answered. What nobody waits for any more is dropped.
    package func replied(_ session: SessionID, _ epoch: Epoch, _ digests: [UInt8]) {
        state.withLock { state in
            guard state.session == session, state.asked == epoch, state.reply == nil else { return }
            let pages = state.runs.reduce(0) { $0 + Int($1.count) }
            state.reply = Reply(digests: digests.count == pages * PageDigest.size ? digests : nil)
        }
        news.signal()
    }
}
