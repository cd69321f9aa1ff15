import Dispatch
import Synchronization

/// Counts changes, and wakes whoever waits for the next one. `publish` only wakes: it may be called from any thread, under
/// any lock.
package final class ChangeFeed: Sendable {
    private struct State {
        var version: UInt64 = 0
        var waiters: [UInt64: @Sendable () -> Void] = [:]
        var lastWaiter: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// How many changes there were.
    package var version: UInt64 { state.withLock { $0.version } }

    package func publish() {
        let waiters = state.withLock { state in
            state.version += 1
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for wake in waiters { wake() }
    }

    /// Returns once there was a change after `version`, at `deadline` or when the task is cancelled.
    package func next(after version: UInt64, until deadline: ContinuousClock.Instant) async {
        let (change, wake) = AsyncStream<Never>.makeStream()
        guard let waiter = enlist(after: version, { wake.finish() }) else { return }
        let timer = Task {
            try? await Task.sleep(until: deadline, clock: .continuous)
            wake.finish()
        }
        for await _ in change {}
        timer.cancel()
        dismiss(waiter)
    }

    /// Waits until `condition` holds, which is asked now and after each change. False when it does not by `deadline`, or
    /// when the task is cancelled before.
    package func wait(until deadline: ContinuousClock.Instant, for condition: @Sendable () -> Bool) async -> Bool {
        while true {
            let seen = version
            if condition() { return true }
            if Task.isCancelled || .now >= deadline { return false }
            await next(after: seen, until: deadline)
        }
    }

    /// The same on a thread that may block.
    package func block(until deadline: ContinuousClock.Instant, for condition: () -> Bool) -> Bool {
        while true {
            let seen = version
            if condition() { return true }
            let left = deadline - .now
            guard left > .zero else { return false }
            let changed = DispatchSemaphore(value: 0)
            guard let waiter = enlist(after: seen, { changed.signal() }) else { continue }
            _ = changed.wait(timeout: .now() + left / .seconds(1))
            dismiss(waiter)
        }
    }

    /// Has `wake` called once at the next change; nil when there was one after `version` already.
    private func enlist(after version: UInt64, _ wake: @escaping @Sendable () -> Void) -> UInt64? {
        state.withLock { state in
            guard state.version == version else { return nil }
            state.lastWaiter += 1
            state.waiters[state.lastWaiter] = wake
            return state.lastWaiter
        }
    }

    private func dismiss(_ waiter: UInt64) { state.withLock { _ = $0.waiters.removeValue(forKey: waiter) } }
}
