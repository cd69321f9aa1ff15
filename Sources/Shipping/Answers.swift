import LinuxSystem

/// Questions that were put to the other side of a link, and their answers, until whoever asked takes them.
///
/// Asked, answered and taken on any threads; whoever waits sleeps until the answer is there or `close` says that none will
/// come. Only what was asked for is taken in, so a peer cannot fill this host's memory with answers.
package final class Answers<Question: Hashable & Sendable, Answer: Sendable>: Sendable {
    private struct State {
        var open: Set<Question> = []
        var answers: [Question: Answer] = [:]
        var end: String?
    }

    private let state = Monitor(State())

    package init() {}

    /// Call before the question is sent.
    package func expect(_ question: Question) { state.look { _ = $0.open.insert(question) } }

    /// False when that was not asked, or was answered already.
    package func deliver(_ answer: Answer, to question: Question) -> Bool {
        state.change { state in
            guard state.open.remove(question) != nil else { return false }
            state.answers[question] = answer
            return true
        }
    }

    /// The answer, where it is there.
    package func take(_ question: Question) -> Answer? {
        state.look { $0.answers.removeValue(forKey: question) }
    }

    /// What came of waiting for an answer.
    package enum Outcome {
        case answered(Answer)
        case timedOut
        /// None will come; why.
        case closed(String)
    }

    /// Waits for the answer, up to so many nanoseconds.
    package func wait(for question: Question, nanoseconds: UInt64) -> Outcome {
        let outcome = state.wait(nanoseconds: nanoseconds) { state -> Outcome? in
            if let answer = state.answers.removeValue(forKey: question) { return .answered(answer) }
            return state.end.map { .closed($0) }
        }
        return outcome ?? .timedOut
    }

    /// No more answers will come, because of `reason`. The first reason counts.
    package func close(_ reason: String) {
        state.change { $0.end = $0.end ?? reason }
    }
}
