import Glibc
import NIOCore

/// The frames of one link that are not yet in the kernel, and the threads that wait for room among them.
///
/// Frames leave in the order in which they came in. There are two kinds of them: those of who waits for room, of which at most
/// `window` bytes are queued unless a thread has reason not to wait, and those of who cannot wait, of which more than
/// `reserve` bytes mean that the peer takes nothing.
///
/// SAFETY of `@unchecked Sendable`: all stored variables are touched only between `lock` and `unlock` of `mutex`; the
/// two pthread objects live at fixed addresses from `init` to `deinit`.
final class SendQueue: @unchecked Sendable {
    enum Added: Equatable {
        /// Queued; a drain is under way.
        case queued
        /// Queued; the caller must schedule a drain.
        case mustDrain
        /// Not queued: there would be more than the reserve.
        case overflow(queuedBytes: Int)
        case closed(LinkError.Cause)
    }

    private enum State {
        case open
        /// Takes no more frames, and sends those that it has.
        case finishing
        case closed(LinkError.Cause)
    }

    private let window: Int
    private let reserve: Int
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let room = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var frames = CircularBuffer<(bytes: ByteBuffer, isReserved: Bool)>(initialCapacity: 64)
    private var unsentBytes = 0
    /// Of those, bytes that came without waiting and were not handed out yet.
    private var reservedBytes = 0
    private var waiters = 0
    private var draining = false
    private var state = State.open

    init(window: Int, reserve: Int) {
        self.window = window
        self.reserve = reserve
        guard pthread_mutex_init(mutex, nil) == 0, pthread_cond_init(room, nil) == 0 else {
            fatalError("a mutex with default attributes cannot fail to initialise")
        }
    }

    deinit {
        pthread_cond_destroy(room)
        pthread_mutex_destroy(mutex)
        room.deallocate()
        mutex.deallocate()
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Frames appended and not yet taken by the kernel, in bytes.
    var queuedBytes: Int { locked { unsentBytes } }

    /// Waits until `count` bytes more would be within the window, the queue is closed, or `isPressing` says that the caller
    /// cannot wait, which is asked again after `lookAgain`. Two threads that wait may both find the same room.
    func waitForRoom(_ count: Int, unless isPressing: () -> Bool) {
        locked {
            while case .open = state, unsentBytes > 0, unsentBytes + count > window, !isPressing() {
                waiters += 1
                pthread_cond_wait(room, mutex)
                waiters -= 1
            }
        }
    }

    var isOpen: Bool {
        locked {
            if case .open = state { true } else { false }
        }
    }

    /// Threads in `waitForRoom` ask again whether they may wait.
    func lookAgain() { locked { _ = pthread_cond_broadcast(room) } }

    /// `isReserved` says that the caller cannot wait for room, and has not. `elsewhere` is what another queue sends of the same
    /// link, in bytes: it takes room in this one.
    func append(_ frame: ByteBuffer, isReserved: Bool, elsewhere: Int = 0) -> Added {
        locked {
            let count = frame.readableBytes
            switch state {
            case .open: break
            case .finishing: return .closed(.closed)
            case .closed(let cause): return .closed(cause)
            }
            if isReserved, reservedBytes > 0, reservedBytes + count > reserve {
                return .overflow(queuedBytes: unsentBytes)
            }
            frames.append((frame, isReserved))
            unsentBytes += count + elsewhere
            if isReserved { reservedBytes += count }
            defer { draining = true }
            return draining ? .queued : .mustDrain
        }
    }

    /// Takes room for `count` bytes that another queue sends of the same link.
    func hold(_ count: Int) {
        locked {
            if case .open = state { unsentBytes += count }
        }
    }

    /// The next bytes to be written, at most `max` of them and never of two frames; nil when there are none, and then
    /// the next `append` asks for a drain.
    func next(max: Int) -> ByteBuffer? {
        locked {
            guard let first = frames.first else {
                draining = false
                return nil
            }
            var rest = first.bytes
            let piece = rest.readSlice(length: min(max, rest.readableBytes))
            if rest.readableBytes == 0 {
                frames.removeFirst()
            } else {
                frames[frames.startIndex].bytes = rest
            }
            if first.isReserved { reservedBytes -= piece?.readableBytes ?? 0 }
            return piece
        }
    }

    /// The kernel took `count` bytes. True when nothing is left and the queue is finishing.
    func sent(_ count: Int) -> Bool {
        locked {
            // What was on its way when the queue was closed is no longer counted.
            if case .closed = state { return false }
            unsentBytes -= count
            // Waking at half of the window spares a switch per piece, and leaves the link something to do meanwhile.
            if waiters > 0, unsentBytes <= window / 2 { pthread_cond_broadcast(room) }
            if case .finishing = state { return unsentBytes == 0 }
            return false
        }
    }

    /// Takes no more frames; waiting threads are woken. True when nothing is left to be sent.
    func finish() -> Bool {
        locked {
            guard case .open = state else { return false }
            state = .finishing
            pthread_cond_broadcast(room)
            return unsentBytes == 0
        }
    }

    /// Drops what is queued; waiting threads are woken.
    func close(_ cause: LinkError.Cause) {
        locked {
            if case .closed = state { return }
            state = .closed(cause)
            frames.removeAll(keepingCapacity: false)
            (unsentBytes, reservedBytes) = (0, 0)
            pthread_cond_broadcast(room)
        }
    }
}
