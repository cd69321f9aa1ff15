import Glibc
import NIOCore

/// The frames of one link that are not yet in the kernel, and the threads that wait for room among them.
///
/// Frames leave in the order in which they came in. At most `window` bytes are queued by `append(waiting: true)`; at
/// most `window + reserve` in all.
///
/// SAFETY of `@unchecked Sendable`: all stored variables are touched only between `lock` and `unlock` of `mutex`; the
/// two pthread objects live at fixed addresses from `init` to `deinit`.
final class SendQueue: @unchecked Sendable {
    enum Added: Equatable {
        /// Queued; a drain is under way.
        case queued
        /// Queued; the caller must schedule a drain.
        case mustDrain
        /// Not queued: there would be more than window and reserve.
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
    private var frames = CircularBuffer<ByteBuffer>(initialCapacity: 64)
    private var unsentBytes = 0
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

    func append(_ frame: ByteBuffer, waiting: Bool) -> Added {
        locked {
            let count = frame.readableBytes
            if waiting {
                while case .open = state, unsentBytes > 0, unsentBytes + count > window {
                    waiters += 1
                    pthread_cond_wait(room, mutex)
                    waiters -= 1
                }
            }
            switch state {
            case .open: break
            case .finishing: return .closed(.closed)
            case .closed(let cause): return .closed(cause)
            }
            if !waiting, unsentBytes > 0, unsentBytes + count > window + reserve {
                return .overflow(queuedBytes: unsentBytes)
            }
            frames.append(frame)
            unsentBytes += count
            defer { draining = true }
            return draining ? .queued : .mustDrain
        }
    }

    /// The next bytes to be written, at most `max` of them and never of two frames; nil when there are none, and then
    /// the next `append` asks for a drain.
    func next(max: Int) -> ByteBuffer? {
        locked {
            guard var frame = frames.first else {
                draining = false
                return nil
            }
            if frame.readableBytes <= max { return frames.removeFirst() }
            let piece = frame.readSlice(length: max)
            frames[frames.startIndex] = frame
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
            unsentBytes = 0
            pthread_cond_broadcast(room)
        }
    }
}
