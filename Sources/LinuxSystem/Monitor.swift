import Glibc

/// A value that threads share, change and wait for: a mutex and a condition of pthread(7), with time on CLOCK_MONOTONIC, so that
/// a wall clock that is set neither ends a wait nor prolongs it.
///
/// For threads that may block; what only has to exclude others is a `Mutex`.
public final class Monitor<State>: @unchecked Sendable {
    // SAFETY: `state` is touched with `mutex` held only; both pthread objects live at fixed addresses.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State

    public init(_ state: sending State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(changed, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Looks at the state, or changes what nobody waits for.
    public func look<Value>(_ body: (inout State) -> Value) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&state)
    }

    /// Changes the state; whoever waits looks again.
    @discardableResult public func change<Value>(_ body: (inout State) -> Value) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let value = body(&state)
        pthread_cond_broadcast(changed)
        return value
    }

    /// As `change`, for what any one of those that wait may take: one of them looks again.
    @discardableResult public func changeForOne<Value>(_ body: (inout State) -> Value) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let value = body(&state)
        pthread_cond_signal(changed)
        return value
    }

    /// Waits until it is so, and changes nothing.
    public func await(_ isSo: (State) -> Bool) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isSo(state) { pthread_cond_wait(changed, mutex) }
    }

    /// Waits until `body` has something: it is called now and after each change. What it changes wakes the others.
    public func wait<Value>(for body: (inout State) -> Value?) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let value = body(&state) {
                pthread_cond_broadcast(changed)
                return value
            }
            pthread_cond_wait(changed, mutex)
        }
    }

    /// As `wait(for:)`, but what it changes nobody waits for.
    public func take<Value>(_ body: (inout State) -> Value?) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let value = body(&state) { return value }
            pthread_cond_wait(changed, mutex)
        }
    }

    /// As `wait(for:)`; nil when there was nothing within so many nanoseconds.
    public func wait<Value>(nanoseconds: UInt64, for body: (inout State) -> Value?) -> Value? {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let (seconds, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        let nanosecond = deadline.tv_nsec + Int(rest)
        deadline.tv_sec += Int(clamping: seconds + UInt64(nanosecond / 1_000_000_000))
        deadline.tv_nsec = nanosecond % 1_000_000_000
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var isOver = false
        while true {
            if let value = body(&state) {
                pthread_cond_broadcast(changed)
                return value
            }
            guard !isOver else { return nil }
            isOver = pthread_cond_timedwait(changed, mutex, &deadline) == ETIMEDOUT
        }
    }
}
