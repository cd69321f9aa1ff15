import Glibc

/// A bounded queue between two threads: `push` blocks while it is full, `pop` while it is empty. Closing it wakes both.
package final class BlockingQueue<Element: Sendable>: @unchecked Sendable {
    // SAFETY: everything mutable is touched with `mutex` held; both pthread objects live at fixed addresses.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var elements: [Element] = []
    private var head = 0
    private var closed = false
    private let capacity: Int

    package init(capacity: Int) {
        self.capacity = capacity
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        elements.reserveCapacity(capacity * 2)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// False when the queue was closed and the element was not taken.
    @discardableResult package func push(_ element: Element) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while elements.count - head >= capacity, !closed { pthread_cond_wait(changed, mutex) }
        guard !closed else { return false }
        elements.append(element)
        pthread_cond_broadcast(changed)
        return true
    }

    /// Nil once the queue is closed and empty.
    package func pop() -> Element? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while head == elements.count, !closed { pthread_cond_wait(changed, mutex) }
        return removeFirst()
    }

    /// Nil when nothing came within `milliseconds`, or the queue is closed and empty.
    package func pop(milliseconds: Int) -> Element? {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_nsec += milliseconds * 1_000_000
        deadline.tv_sec += deadline.tv_nsec / 1_000_000_000
        deadline.tv_nsec %= 1_000_000_000
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while head == elements.count, !closed, pthread_cond_timedwait(changed, mutex, &deadline) == 0 {}
        return removeFirst()
    }

    package var isClosed: Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return closed
    }

    /// With the mutex held.
    private func removeFirst() -> Element? {
        guard head < elements.count else { return nil }
        let element = elements[head]
        head += 1
        if head == elements.count || head >= 64 {
            elements.removeFirst(head)
            head = 0
        }
        pthread_cond_broadcast(changed)
        return element
    }

    package func close() {
        pthread_mutex_lock(mutex)
        closed = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }
}
