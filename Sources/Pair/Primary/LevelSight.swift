import Model
import Protocol

extension PrimaryShell {
    /// What the guest climbs back to; nil while it is not degraded.
    public var degradedFrom: Level? { state.withLock { $0.duty.keeper.asked } }

    /// What of a session says whether its level can be held; epochs are the duty's to tell.
    static func sight(_ state: State) -> DegradeMachine.Sight {
        var sight = DegradeMachine.Sight()
        sight.heldSince = state.gates.compactMap(\.held.since).min()
        (sight.written, sight.taken) = state.parts.writes.progress
        if let standing = state.figures.standing, standing.goal == state.duty.tuning.goal {
            sight.missesTarget = standing.isMissed
        }
        let isHeard = if case .up? = state.parts.watch?.view.link { true } else { false }
        sight.isCalm = isHeard && !state.duty.connection.isStalled
        return sight
    }
}
