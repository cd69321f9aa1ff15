import Model
import Registers
import Synchronization

/// Carries a machine's questions to the arbiter: one is under way at a time, a new one replaces it. After an answer that was none,
/// and after a reading that another one follows at once, the next one waits, 50 ms at first and up to 1 s.
final class ArbiterQuestions: Sendable {
    private struct State {
        var task: Task<Void, Never>?
        var generation: UInt64 = 0
        var unanswered = 0
        /// Readings in a row, and when the last one was answered.
        var readings = 0
        var readAt = ContinuousClock.now

        /// Before a question that is asked now, in milliseconds.
        ///
        /// - Parameter isFirst: it is no reading that may follow another one.
        mutating func pause(isFirst: Bool) -> Int {
            if isFirst { readings = 0 }
            let isAgain = readings > 0 && ContinuousClock.now < readAt + .seconds(2)
            let steps = max(unanswered, isAgain ? readings : 0)
            return steps == 0 ? 0 : min(1000, 50 << min(steps - 1, 5))
        }
    }

    private let vm: VMName
    private let arbiter: any Arbiter
    private let state = Mutex(State())

    init(_ vm: VMName, _ arbiter: any Arbiter) {
        self.vm = vm
        self.arbiter = arbiter
    }

    /// `told` is called once, from any thread, unless another question replaced this one.
    func ask(_ question: RegisterQuestion, _ told: @escaping @Sendable (RegisterFinding) -> Void) {
        switch question {
        case .compareAndSet(let expected, let new, let nonce):
            compareAndSet(expecting: expected, to: new, nonce: nonce) { told(.answered(nonce, $0)) }
        case .read(let limit): read(within: limit) { told(RegisterFinding($0)) }
        }
    }

    private func compareAndSet(
        expecting expected: Register?, to new: Register, nonce: Nonce,
        _ answer: @escaping @Sendable (RegisterAnswer) -> Void
    ) {
        ask(isFirst: true) { [vm, arbiter] in
            await arbiter.compareAndSet(vm, expecting: expected, to: new, nonce: nonce)
        } isKnown: {
            if case .unknown = $0 { false } else { true }
        } then: {
            answer($0)
        }
    }

    /// One with a limit is a question of its own: somebody stands still for it.
    private func read(within limit: Duration?, _ answer: @escaping @Sendable (RegisterReading) -> Void) {
        let asked = ask(isFirst: limit != nil) { [self] in
            let reading = await arbiter.read(vm)
            self.state.withLock { ($0.readings, $0.readAt) = ($0.readings + 1, .now) }
            return reading
        } isKnown: {
            if case .unknown = $0 { false } else { true }
        } then: {
            answer($0)
        }
        guard let limit else { return }
        Task.detached(priority: .high) { [self] in
            try? await Task.sleep(for: limit)
            if abandon(asked) { answer(.unknown("\(arbiter.name) gave no answer within \(limit)")) }
        }
    }

    /// False when that question was answered, or replaced, before.
    private func abandon(_ generation: UInt64) -> Bool {
        state.withLock { state in
            guard state.generation == generation, let task = state.task else { return false }
            task.cancel()
            state.task = nil
            state.generation += 1
            state.unanswered += 1
            return true
        }
    }

    func stop() {
        state.withLock { state in
            state.generation += 1
            state.task?.cancel()
            state.task = nil
        }
    }

    @discardableResult private func ask<Answer: Sendable>(
        isFirst: Bool, _ question: @escaping @Sendable () async -> Answer,
        isKnown: @escaping @Sendable (Answer) -> Bool, then: @escaping @Sendable (Answer) -> Void
    ) -> UInt64 {
        state.withLock { state in
            state.generation += 1
            let generation = state.generation
            let pause = state.pause(isFirst: isFirst)
            state.task?.cancel()
            state.task = Task.detached(priority: .high) { [self] in
                if pause > 0 { try? await Task.sleep(for: .milliseconds(pause)) }
                guard self.state.withLock({ $0.generation == generation }) else { return }
                let answer = await question()
                let isCurrent = self.state.withLock { state in
                    guard state.generation == generation else { return false }
                    state.unanswered = isKnown(answer) ? 0 : state.unanswered + 1
                    state.task = nil
                    return true
                }
                if isCurrent { then(answer) }
            }
            return generation
        }
    }
}
