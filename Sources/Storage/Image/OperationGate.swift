import Glibc

/// Lets any number of operations run, until it is closed; closing waits for those under way.
// SAFETY: everything mutable is touched with `mutex` held; both pthread objects live at fixed addresses.
final class OperationGate: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let idle = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var running = 0
    private var closed = false

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(idle, nil)
    }

    deinit {
        pthread_cond_destroy(idle)
        pthread_mutex_destroy(mutex)
        idle.deallocate()
        mutex.deallocate()
    }

    /// False when the gate is closed; otherwise `leave` must follow.
    func enter() -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if !closed { running += 1 }
        return !closed
    }

    func leave() {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        running -= 1
        if running == 0 { pthread_cond_broadcast(idle) }
    }

    /// Returns once nothing runs; true for the one caller that closed it.
    func close() -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let first = !closed
        closed = true
        while running > 0 { pthread_cond_wait(idle, mutex) }
        return first
    }
}
