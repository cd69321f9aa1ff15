import FoundationEssentials
import Model
import RomulusAPI
import Synchronization

/// The last events of this agent, in memory, with a way to wait for the next one.
public final class EventLog: Sendable {
    /// How many events are remembered; the oldest go first.
    public static let eventsMax = 4096

    private struct State {
        var events: [Event] = []
        var lastID: UInt64 = 0
        var waiting: [UInt64: AsyncStream<Never>.Continuation] = [:]
        var nextWaiter: UInt64 = 0
    }

    private let state = Mutex(State())

    public init() {}

    /// Notes an event that happens now.
    @discardableResult
    public func append(
        _ kind: Event.Kind, vm: VMName? = nil, epoch: UInt64? = nil, term: UInt64? = nil, _ message: String
    ) -> Event {
        let (event, waiting) = state.withLock { state in
            state.lastID += 1
            let event = Event(
                id: state.lastID, time: Date(), vm: vm, epoch: epoch, term: term, kind: kind, message: message)
            // Dropped in batches: an array that loses its first element at each append would move all others.
            if state.events.count >= 2 * Self.eventsMax { state.events.removeFirst(Self.eventsMax) }
            state.events.append(event)
            let waiting = state.waiting
            state.waiting = [:]
            return (event, waiting)
        }
        for continuation in waiting.values { continuation.finish() }
        return event
    }

    /// Events with an id above `after`, oldest first, at most `limit`; the form that `AgentService.events` asks for.
    /// Waits up to `wait` while there is none. An `after` that no event of this run has (the agent was restarted since)
    /// counts as 0.
    public func events(
        vm: VMName? = nil, after: UInt64 = 0, limit: Int = 1000, wait: Duration = .zero
    ) async -> [Event] {
        let deadline = ContinuousClock.now + wait
        while true {
            let (found, changed, waiter) = lookOrRegister(vm, after, limit)
            guard found.isEmpty, deadline > .now, !Task.isCancelled else {
                unregister(waiter)
                return found
            }
            await withTaskGroup(of: Void.self) { group in
                group.addTask { for await _ in changed {} }
                group.addTask { try? await Task.sleep(until: deadline) }
                await group.next()
                group.cancelAll()
            }
            unregister(waiter)
        }
    }

    /// Looks, and in the same locked step asks to be told of the next event: none can slip in between.
    private func lookOrRegister(
        _ vm: VMName?, _ after: UInt64, _ limit: Int
    ) -> (found: [Event], changed: AsyncStream<Never>, waiter: UInt64) {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        let (found, waiter) = state.withLock { state in
            let after = after > state.lastID ? 0 : after
            let found = state.events.lazy.filter { $0.id > after && (vm == nil || $0.vm == vm) }.prefix(max(limit, 0))
            let waiter = state.nextWaiter
            state.nextWaiter += 1
            state.waiting[waiter] = continuation
            return (Array(found), waiter)
        }
        return (found, stream, waiter)
    }

    private func unregister(_ waiter: UInt64) {
        _ = state.withLock { $0.waiting.removeValue(forKey: waiter) }
    }
}
