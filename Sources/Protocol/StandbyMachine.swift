import Model

/// What the standby side of one session decides.
///
///     receiving --staged(1)--> holding --staged(n+1)--> holding
///         |                       |-- takeOver --> takingOver(n) --applied(n)--> running
///         |                       |-- linkLost --> orphaned --takeOver--> takingOver(n)
///         +-- linkLost ---------> ended (nothing complete to resume from)
///
/// Staging, acknowledging and resuming are one machine, so that nothing is acknowledged once the standby resumed.
public struct StandbyMachine: Sendable, Equatable {
    public enum State: Sendable, Equatable {
        /// The first copy arrives; no checkpoint is complete.
        case receiving
        /// Every epoch up to `staged` is held whole; those up to `applied` are in the replica.
        case holding(staged: Epoch, applied: Epoch)
        /// As `holding`, but the primary is not heard any more.
        case orphaned(staged: Epoch, applied: Epoch)
        /// No more acknowledgements; the rest is being applied.
        case takingOver(committed: Epoch, applied: Epoch)
        case running(from: Epoch)
        case ended
    }

    public enum Event: Sendable, Equatable {
        /// All frames of `epoch` are here, in order, and their digest is right.
        case staged(Epoch)
        /// `epoch` is written into the replica.
        case applied(Epoch)
        case linkLost
        /// The primary asks for it because its QEMU died, or the operator does.
        case takeOver
        /// The primary does not need this standby any more.
        case dismissed
    }

    public enum Action: Sendable, Equatable {
        case acknowledge(Epoch)
        case apply(Epoch)
        /// Drop frames of epochs after this one: they are not complete and never will be.
        case discard(after: Epoch)
        /// Everything committed is applied: run the guest.
        case resume(from: Epoch)
        /// Tell the operator that the primary is not heard any more.
        case reportPrimaryLost
        /// End the standby QEMU and remove the replica.
        case dismantle
        /// The request cannot be followed: there is nothing to resume from, or it is running already.
        case refuse(String)
    }

    public private(set) var state = State.receiving
    public init() {}

    /// A machine for a replica found on disk after the agent was restarted: the primary's session is gone, and
    /// everything up to `applied` is in the replica.
    public init(recovered applied: Epoch) { state = .orphaned(staged: applied, applied: applied) }

    public mutating func handle(_ event: Event) -> [Action] {
        var actions: [Action] = []
        switch (state, event) {
        case (.receiving, .staged(let epoch)):
            guard epoch == Epoch(1) else {
                return refuse("checkpoint \(epoch) arrived where checkpoint 1 was expected")
            }
            state = .holding(staged: epoch, applied: .firstCopy)
            actions += [.acknowledge(epoch), .apply(epoch)]

        case (.holding(let staged, let applied), .staged(let epoch)):
            guard epoch == staged.next else {
                return refuse("checkpoint \(epoch) arrived where checkpoint \(staged.next) was expected")
            }
            state = .holding(staged: epoch, applied: applied)
            actions += [.acknowledge(epoch), .apply(epoch)]

        case (.holding(let staged, _), .applied(let epoch)):
            state = .holding(staged: staged, applied: epoch)
        case (.orphaned(let staged, _), .applied(let epoch)):
            state = .orphaned(staged: staged, applied: epoch)

        case (.takingOver(let committed, _), .applied(let epoch)):
            if epoch == committed {
                state = .running(from: committed)
                actions.append(.resume(from: committed))
            } else {
                state = .takingOver(committed: committed, applied: epoch)
            }

        case (.holding(let staged, let applied), .takeOver), (.orphaned(let staged, let applied), .takeOver):
            actions.append(.discard(after: staged))
            if applied == staged {
                state = .running(from: staged)
                actions.append(.resume(from: staged))
            } else {
                state = .takingOver(committed: staged, applied: applied)
            }

        case (.receiving, .takeOver):
            return refuse("no checkpoint is complete yet: the first copy was still under way")
        case (.takingOver, .takeOver), (.running, .takeOver):
            return refuse("the guest is already being resumed or runs here")
        case (.ended, .takeOver):
            return refuse("the replica was given up")

        case (.holding(let staged, let applied), .linkLost):
            state = .orphaned(staged: staged, applied: applied)
            actions += [.discard(after: staged), .reportPrimaryLost]

        case (.receiving, .linkLost), (.receiving, .dismissed), (.holding, .dismissed), (.orphaned, .dismissed):
            state = .ended
            actions.append(.dismantle)

        case (.takingOver, _), (.running, _), (.ended, _), (.orphaned, _), (.receiving, .applied):
            // Frames and messages of a session that is over have no effect: above all, nothing is acknowledged.
            break
        }
        return actions
    }

    private func refuse(_ reason: String) -> [Action] { [.refuse(reason)] }
}
