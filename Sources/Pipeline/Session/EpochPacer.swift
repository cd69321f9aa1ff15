import LinuxSystem
import Model
import Protocol

/// Feeds the timer of a session's epochs with what it has to know: the guest's work, acknowledgements, the operator's
/// tuning. Lives on the session's thread.
final class EpochPacer {
    private let session: PrimarySession
    private let work: GuestWork
    private var timer: EpochTimer

    init(_ session: PrimarySession, pid: Int32) throws(SystemError) {
        self.session = session
        work = try GuestWork(of: pid)
        timer = EpochTimer(session.options.epochs(session.tuning))
    }

    /// The guest runs again since `now`, behind a checkpoint that cost what `timings` say.
    func resumed(at now: UInt64, _ timings: EpochTimings) {
        timer.resumed(at: now, pause: timings.pause, used: work.resumed(), dirtyPages: timings.dirtyPages)
    }

    /// When the epoch that runs is to end.
    func due(firstHeld: UInt64?) -> UInt64 { timer.due(firstHeld: firstHeld, used: work.sinceResumed) }

    /// How long to wait at most before asking again, in nanoseconds.
    var lookPeriod: UInt64 { min(timer.lookPeriod, 200_000_000) }

    /// Takes over what the rest of the session did meanwhile, and tells it how the epochs stand. Returns what it wants of
    /// the session's thread.
    func follow() -> (acknowledged: Epoch, sealsLast: Bool) {
        session.state.withLock { state in
            let settings = session.options.epochs(state.tuning)
            if timer.settings != settings { timer.change(settings) }
            for transit in state.connection.transits { timer.acknowledged(after: transit) }
            state.connection.transits.removeAll(keepingCapacity: true)
            state.status.standing = timer.standing
            return (state.machine.acknowledged, state.wishes.sealLast)
        }
    }
}
