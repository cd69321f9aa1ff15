import Model
import Protocol
import Standby

/// What came of what was to be done: at the arbiter, on stable storage, on the apply thread.
extension StandbyDuty {
    package mutating func learn(_ finding: RegisterFinding) -> [Output] {
        var outputs: [Output] = []
        switch finding {
        case .answered(let nonce, let answer):
            outputs.append(.report(answer.event))
            feed(.answered(nonce, answer), &outputs)
        case .read(let register): feed(.registerRead(register), &outputs)
        case .unreadable(let reason):
            lastError = reason
            feed(.registerUnreadable(reason), &outputs)
        }
        return outputs
    }

    package mutating func persisted(_ term: Term, at now: UInt64) -> [Output] {
        takeOver?.recordedAt = now
        return handle(.persisted(term))
    }

    /// While the former owner's lease was waited for, the register was given to somebody else, by a claim of an operator's.
    package mutating func lose(to register: Register) -> [Output] {
        guard case .takingOver = machine.state, let won = machine.register, register.term > won.term else { return [] }
        let reason = "\(register.owner) was given the guest (term \(register.term)) before it was started here"
        lastError = reason
        return handle(.imageLost(reason))
    }

    package mutating func failToPersist(_ error: SessionError) -> [Output] {
        lastError = error.message
        return [.report(.failure(error))]
    }

    // MARK: - The apply thread

    package mutating func apply(_ epoch: Epoch) -> [Output] {
        applied = epoch
        var outputs = handle(.applied(session, epoch))
        if epoch == Epoch(1), case .holding = machine.state {
            phase = .protected
            lastError = nil
            outputs.append(.report(.event(.state, "checkpoint 1 is complete: this host can take over")))
        }
        return outputs
    }

    package mutating func loaded(at now: UInt64) -> [Output] {
        takeOver?.loadedAt = now
        return handle(.loaded)
    }

    package mutating func failToLoad(_ error: SessionError) -> [Output] {
        [.report(.failure(error))] + handle(.loadFailed(error.message))
    }

    /// The guest runs, or its QEMU did not go on.
    package mutating func resumed(_ outcome: Result<TakeOverReport, SessionError>) -> [Output] {
        var outputs: [Output] = []
        switch outcome {
        case .success:
            phase = .running
            feed(.resumed, &outputs)
            // Alone, the guest needs no lease.
            endLease(&outputs)
            isFinished = true
            outputs.append(.settle(outcome))
        case .failure(let error): feed(.resumeFailed(error.message), &outputs)
        }
        // A primary that asked for this waits for the end of the connection.
        closeLink(&outputs)
        return outputs
    }

    package mutating func dismantled() -> [Output] {
        var outputs: [Output] = []
        phase = .ended
        isFinished = true
        closeLink(&outputs)
        return outputs
    }
}
