import Dispatch
import Foundation
import Model
import Synchronization

/// The durable time line of one agent: what was decided for each VM, why, and what came of it.
///
/// `Journal` owns `journal.sqlite` and nothing else. Whoever appends is never kept waiting: an event gets its id, its
/// time and its cause under a lock that is held for microseconds, and goes into a bounded queue; one writer puts the
/// queue into the file, as many events to a transaction as there are, and syncs it. Readers see the file and the queue
/// as one. An agent starts and works whatever is the matter with the file: a damaged one is set aside and another begun,
/// one that cannot be used is tried again each second, and meanwhile the queue keeps the decisions.
///
/// Nothing here throws at whoever appends, and no event is lost to a kill -9 or a power cut once `saved` or `flush` said
/// that it is written.
public final class EventJournal: Sendable {
    /// So many events wait for the writer at most, as long as some of them are informational.
    public static let queueMax = 4096
    /// Longer texts are cut.
    public static let textBytesMax = 2048
    /// How many events one transaction takes.
    static let batchMax = 512
    /// After a start of the agent, ids go on at a multiple of this: those that were given last and seen by somebody but
    /// never written are not given again.
    static let idStep: UInt64 = 1000
    /// How many events back a chain is looked for.
    static let chainEventsMax = 2000
    /// Damaged files are set aside so often in one run: a disk that spoils each new file must not be filled with them.
    static let setAsideMax = 3

    private struct State {
        var lastID: UInt64 = 0
        var heads = ChainHeads()
        var queue: EventQueue
        var store: Store?
        /// Whether the file was opened once: only then is `lastID` what comes after the file's.
        var isNumbered = false
        var isScheduled = false
        var isClosed = false
        /// What was last said to be wrong with the file; nil while all is well.
        var trouble: String?
        var timesSetAside = 0
        var droppedReported: UInt64 = 0
        var sincePrune = 0
        var lastPrune: Int64?
        var watchers: [UInt64: AsyncStream<Never>.Continuation] = [:]
        var nextWatcher: UInt64 = 0
    }

    private let path: String
    private let limits: JournalLimits
    private let clock: JournalClock
    private let report: @Sendable (String) -> Void
    private let state: Mutex<State>
    private let writer = DispatchQueue(label: "journal")

    /// Opens or makes the journal at `path`, whose directory exists. `report` is given sentences for the agent's log,
    /// from any thread.
    public init(
        path: String, limits: JournalLimits = JournalLimits(), clock: JournalClock = .system,
        queueMax: Int = EventJournal.queueMax, report: @escaping @Sendable (String) -> Void
    ) {
        self.path = path
        self.limits = limits
        self.clock = clock
        self.report = report
        state = Mutex(State(queue: EventQueue(capacity: queueMax)))
        writer.sync { _ = openStore() }
        schedule()
    }

    // MARK: - Appending

    /// Notes an event that happens now and returns its id. Never blocks on the file. Without `cause` the event is linked
    /// to the VM's last decision, where it follows from that; `protected` becomes `reProtected` where protection was lost.
    @discardableResult
    public func append(
        _ kind: EventKind, vm: VMName? = nil, term: Term? = nil, epoch: Epoch? = nil, cause: UInt64? = nil,
        _ text: String
    ) -> UInt64 {
        let text = Self.fit(text)
        let (id, watchers) = state.withLock { state in
            state.lastID += 1
            let kind = state.heads.settled(kind, vm: vm)
            let linked = state.heads.cause(of: state.lastID, kind, vm: vm)
            state.queue.append(
                JournalEvent(
                    id: state.lastID, time: clock.now(), vm: vm, term: term.map { Term(Self.fit($0.number)) },
                    epoch: epoch.map { Epoch(Self.fit($0.number)) }, kind: kind, text: text, cause: cause ?? linked))
            let watchers = state.watchers
            state.watchers = [:]
            return (state.lastID, watchers)
        }
        for watcher in watchers.values { watcher.finish() }
        schedule()
        return id
    }

    /// How many informational events were dropped because the queue was full.
    public var dropped: UInt64 { state.withLock { $0.queue.dropped } }

    /// Writes what is waiting; true when all of it is on the disk. Blocks.
    @discardableResult
    public func flush() -> Bool {
        writer.sync { drain() }
    }

    /// Waits until what was appended so far is on the disk, at most for `limit`; true when it is.
    public func saved(within limit: Duration) async -> Bool {
        let answer = Answer()
        let (seconds, attoseconds) = limit.components
        let deadline = DispatchTime.now() + Double(seconds) + Double(attoseconds) / 1e18
        return await withCheckedContinuation { continuation in
            answer.continuation.withLock { $0 = continuation }
            writer.async { [self] in answer.give(drain()) }
            DispatchQueue.global().asyncAfter(deadline: deadline) { answer.give(false) }
        }
    }

    /// Writes what is waiting and closes the file. What is appended after that is lost.
    public func close() {
        writer.sync {
            if !drain() {
                let count = state.withLock { $0.queue.unwritten.count }
                report("\(count) events could not be written to the journal \(path) before the end; the log has them")
            }
            let store = state.withLock { state in
                state.isClosed = true
                return state.store.take()
            }
            store?.close()
        }
    }

    // MARK: - Reading

    /// What `query` asks for, oldest first, written or not. Waits up to `wait` while there is none. An `after` that no
    /// event has counts as 0. A task that is cancelled gets what there is.
    public func events(
        _ query: JournalQuery, wait: Duration = .zero
    ) async throws(JournalError) -> [JournalEvent] {
        let deadline = ContinuousClock.now + wait
        while true {
            // Asked to be told first, and looked then: no event can slip in between.
            let (changed, watcher) = watch()
            let found: [JournalEvent]
            do throws(JournalError) {
                found = try await look(query)
            } catch {
                unwatch(watcher)
                throw error
            }
            if found.isEmpty, deadline > .now, !Task.isCancelled {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { for await _ in changed {} }
                    group.addTask { try? await Task.sleep(until: deadline) }
                    await group.next()
                    group.cancelAll()
                }
                unwatch(watcher)
            } else {
                unwatch(watcher)
                return found
            }
        }
    }

    /// The last decisions of `vm` that follow from each other, oldest first, with the information that hangs on them;
    /// empty when the journal has no decision about it.
    public func lastChain(of vm: VMName) async throws(JournalError) -> [JournalEvent] {
        var query = JournalQuery(vm: vm)
        query.limit = Self.chainEventsMax
        query.newest = true
        return Chain.last(in: try await look(query))
    }

    /// A setting of the connection that writes, such as `synchronous`; nil while there is no file.
    package func setting(_ name: String) -> String? {
        writer.sync { state.withLock { $0.store }?.setting(name) }
    }

    private func look(_ query: JournalQuery) async throws(JournalError) -> [JournalEvent] {
        // The queue first: what the writer moves into the file meanwhile is found twice, and never not at all.
        let (unwritten, store, query) = state.withLock { state in
            var query = query
            if query.after > state.lastID { query.after = 0 }
            return (state.queue.unwritten, state.store, query)
        }
        var found: [JournalEvent] = []
        do {
            if let store { found = try await store.events(query) }
        } catch is CancellationError {
            return []
        } catch let problem as Store.Problem {
            if case .damaged = problem { writer.async { [self] in recover(from: problem) } }
            throw JournalError(description: "the journal \(path) cannot be read: \(problem.reason)")
        } catch {
            throw JournalError(description: "the journal \(path) cannot be read: \(error)")
        }
        // Ids are written in their order: what is in the queue and not above the file's last is in the file.
        let last = found.last?.id ?? query.after
        found += unwritten.filter { $0.id > last && query.matches($0) }
        return query.newest ? Array(found.suffix(query.limit)) : Array(found.prefix(query.limit))
    }

    private func watch() -> (changed: AsyncStream<Never>, watcher: UInt64) {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        let watcher = state.withLock { state in
            state.nextWatcher += 1
            state.watchers[state.nextWatcher] = continuation
            return state.nextWatcher
        }
        return (stream, watcher)
    }

    private func unwatch(_ watcher: UInt64) {
        _ = state.withLock { $0.watchers.removeValue(forKey: watcher) }
    }

    // MARK: - The writer

    private func schedule() {
        let wanted = state.withLock { state in
            defer { state.isScheduled = true }
            return !state.isScheduled && !state.isClosed
        }
        if wanted { writer.async { [weak self] in self?.runScheduled() } }
    }

    /// What was scheduled: writes, and when it does not work tries again in a second.
    private func runScheduled() {
        state.withLock { $0.isScheduled = false }
        guard !drain() else { return }
        let wanted = state.withLock { state in
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        guard wanted else { return }
        writer.asyncAfter(deadline: .now() + 1) { [weak self] in self?.runScheduled() }
    }

    /// Writes until nothing waits. False when the file does not take it. On the writer queue.
    private func drain() -> Bool {
        while true {
            if state.withLock({ $0.isClosed }) { return true }
            guard let store = openStore() else { return false }
            let batch = state.withLock { $0.queue.take(Self.batchMax) }
            do throws(Store.Problem) {
                if !batch.isEmpty {
                    try store.insert(batch)
                    state.withLock { state in
                        state.queue.written()
                        state.sincePrune += batch.count
                    }
                }
                let mayHaveMore = try prune(store)
                noteSuccess()
                if batch.isEmpty, !mayHaveMore { return true }
            } catch {
                state.withLock { $0.queue.putBack() }
                guard recover(from: error) else { return false }
            }
        }
    }

    /// Keeps the bounds: at the start, then after some number of events or an hour. Returns whether there is more to do.
    private func prune(_ store: Store) throws(Store.Problem) -> Bool {
        let now = clock.now()
        let due = state.withLock { state in
            guard let last = state.lastPrune else { return true }
            return state.sincePrune >= max(100, limits.events / 100) || now.boot - last > 3_600_000_000_000
        }
        guard due else { return false }
        let isMore = try store.prune(limits, now: now)
        if !isMore {
            state.withLock { state in
                state.lastPrune = now.boot
                state.sincePrune = 0
            }
        }
        return isMore
    }

    /// The store, opened if it is not open. On the writer queue.
    private func openStore() -> Store? {
        if let store = state.withLock({ $0.store }) { return store }
        while true {
            do throws(Store.Problem) {
                let store = try Store(path: path)
                let last = try store.last()
                state.withLock { state in
                    if !state.isNumbered {
                        let offset = last.id == 0 ? 0 : (last.id / Self.idStep + 1) * Self.idStep - 1
                        state.queue.renumber(by: offset)
                        state.heads.renumber(by: offset, adding: last.heads)
                        state.lastID += offset
                        state.isNumbered = true
                    }
                    state.store = store
                }
                return store
            } catch {
                guard recover(from: error) else { return nil }
            }
        }
    }

    /// True when the damaged file is out of the way and it can be tried again. On the writer queue.
    @discardableResult
    private func recover(from problem: Store.Problem) -> Bool {
        guard case .damaged(let reason) = problem else {
            noteTrouble(problem.reason)
            return false
        }
        let (store, timesSetAside) = state.withLock { state in
            state.lastPrune = nil
            state.timesSetAside += 1
            return (state.store.take(), state.timesSetAside)
        }
        store?.close()
        guard timesSetAside <= Self.setAsideMax else {
            noteTrouble("\(reason), again: the disk spoils it")
            return false
        }
        let aside = "\(path).damaged-\(stamp())-\(timesSetAside)"
        guard rename(path, aside) == 0 else {
            noteTrouble("\(reason), and it cannot be renamed: \(String(cString: strerror(errno)))")
            return false
        }
        // Under the name that SQLite looks for beside the file, so that what was set aside can still be read.
        for suffix in ["-wal", "-shm"] { rename(path + suffix, aside + suffix) }
        let sentence = "the journal \(path) is damaged (\(reason)): it is now \(aside), and a new one was begun"
        report(sentence)
        append(.journal, sentence)
        return true
    }

    /// Says what is wrong with the file, once for each change.
    private func noteTrouble(_ reason: String) {
        let isNew = state.withLock { state in
            defer { state.trouble = reason }
            return state.trouble != reason
        }
        if isNew {
            report(
                "the journal \(path) cannot be used: \(reason); events are kept in memory and it is tried again each second"
            )
        }
    }

    private func noteSuccess() {
        let (recovered, dropped) = state.withLock { state in
            defer {
                state.trouble = nil
                state.droppedReported = state.queue.dropped
            }
            return (state.trouble != nil, state.queue.dropped - state.droppedReported)
        }
        if recovered { report("the journal \(path) is written again") }
        if dropped > 0 {
            append(
                .journal, "\(dropped) informational events were dropped: more came than the disk of the journal took")
        }
    }

    /// The present second, fit for a file name.
    private func stamp() -> String {
        let style = Date.ISO8601FormatStyle(timeZoneSeparator: .omitted)
        let date = Date(timeIntervalSince1970: Double(clock.now().wall) / 1e9)
        return date.formatted(style).replacing(":", with: "")
    }

    /// SQLite's integers are signed.
    private static func fit(_ number: UInt64) -> UInt64 { min(number, UInt64(Int64.max)) }

    /// A text without the byte that would end it in SQLite, and not longer than `textBytesMax`.
    private static func fit(_ text: String) -> String {
        let whole = text.replacing("\0", with: " ")
        guard whole.utf8.count > textBytesMax else { return whole }
        var kept = ""
        for character in whole {
            if kept.utf8.count + character.utf8.count > textBytesMax - 3 { break }
            kept.append(character)
        }
        return kept + "…"
    }
}

extension Store.Problem {
    var reason: String {
        switch self {
        case .damaged(let reason), .unavailable(let reason): reason
        }
    }
}

/// A question that is answered once, by whoever comes first.
private final class Answer: Sendable {
    let continuation = Mutex<CheckedContinuation<Bool, Never>?>(nil)

    func give(_ value: Bool) {
        continuation.withLock { $0.take() }?.resume(returning: value)
    }
}
