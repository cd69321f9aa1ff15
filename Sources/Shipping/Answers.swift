import Glibc

/// Questions that were put to the other side of a link, and their answers, until whoever asked takes them.
///
/// Asked, answered and taken on any threads; whoever waits sleeps until the answer is there or `close` says that none will
/// come. Only what was asked for is taken in, so a peer cannot fill this host's memory with answers.
package final class Answers<Question: Hashable & Sendable, Answer: Sendable>: @unchecked Sendable {
    // SAFETY: everything mutable is touched with `mutex` held; both pthread objects live at fixed addresses.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var open: Set<Question> = []
    private var answers: [Question: Answer] = [:]
    private var end: String?

    package init() {
        pthread_mutex_init(mutex, nil)
        // What is waited for has nothing to do with the host's wall clock, which may be set.
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

    private func locked<Value>(_ body: () -> Value) -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Call before the question is sent.
    package func expect(_ question: Question) { locked { _ = open.insert(question) } }

    /// False when that was not asked, or was answered already.
    package func deliver(_ answer: Answer, to question: Question) -> Bool {
        locked {
            guard open.remove(question) != nil else { return false }
            answers[question] = answer
            pthread_cond_broadcast(changed)
            return true
        }
    }

    /// The answer, where it is there.
    package func take(_ question: Question) -> Answer? { locked { answers.removeValue(forKey: question) } }

    /// What came of waiting for an answer.
    package enum Outcome {
        case answered(Answer)
        case timedOut
        /// None will come; why.
        case closed(String)
    }

    /// Waits for the answer, up to so many nanoseconds.
    package func wait(for question: Question, nanoseconds: UInt64) -> Outcome {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let nanosecond = UInt64(deadline.tv_nsec) + nanoseconds
        deadline.tv_sec += Int(nanosecond / 1_000_000_000)
        deadline.tv_nsec = Int(nanosecond % 1_000_000_000)
        return locked {
            while true {
                if let answer = answers.removeValue(forKey: question) { return .answered(answer) }
                if let end { return .closed(end) }
                if pthread_cond_timedwait(changed, mutex, &deadline) == ETIMEDOUT {
                    return answers.removeValue(forKey: question).map { .answered($0) } ?? .timedOut
                }
            }
        }
    }

    /// No more answers will come, because of `reason`. The first reason counts.
    package func close(_ reason: String) {
        locked {
            end = end ?? reason
            pthread_cond_broadcast(changed)
        }
    }
}
