import LinuxSystem
import Memory
import Model
import Protocol

/// Feeds the timer of a session's epochs with what it has to know: the guest's work, acknowledgements, the operator's
/// tuning. Lives on the session's thread.
final class EpochPacer {
    private let shell: PrimaryShell
    private let work: GuestWork
    private var timer: EpochTimer
    /// From the checkpoint before the last to the last, while the session does not know of it.
    private var cycle: UInt64?

    init(_ shell: PrimaryShell, pid: Int32) throws(SystemError) {
        self.shell = shell
        work = try GuestWork(of: pid)
        timer = EpochTimer(shell.options.epochs(shell.tuning))
    }

    /// The guest runs again since `now`, behind a checkpoint that cost what `timings` say.
    func resumed(at now: UInt64, _ timings: EpochTimings) {
        cycle = timings.run + timings.pause
        timer.resumed(at: now, pause: timings.pause, used: work.resumed(), dirtyPages: timings.dirtyPages)
        if let idle = timer.idleWork { work.wake(after: idle) }
    }

    /// Readable once the guest is no idle one any more: it is worth asking when the epoch is to end.
    var wakeNumber: Int32 { work.wakeNumber }
    func takeWake() { work.takeWake() }

    /// When the epoch that runs is to end.
    func due(firstHeld: UInt64?) -> UInt64 { timer.due(firstHeld: firstHeld, used: work.sinceResumed) }

    /// What the session's thread has to know of the rest of the session.
    struct Pace {
        var acknowledged: Epoch
        /// Checkpoints that may be on the way before the guest runs on without being checkpointed.
        var inFlightMax: UInt64
        /// What the link carries; 0 when nobody knows yet.
        var linkBytesPerSecond: Double
        /// The next checkpoint is to be the last.
        var sealsLast: Bool
        /// What the dial wants next.
        var dial: DialStep?
    }

    /// Takes over what the rest of the session did meanwhile, and tells it how the epochs stand.
    func follow() -> Pace {
        shell.state.withLock { state in
            let settings = shell.options.epochs(state.duty.tuning)
            if timer.settings != settings { timer.change(settings) }
            for transit in state.duty.connection.ledger.takeTransits() { timer.acknowledged(after: transit) }
            state.figures.standing = timer.standing
            if let cycle = cycle.take() { state.duty.connection.ledger.sealed(after: cycle) }
            return Pace(
                acknowledged: state.duty.machine.acknowledged, inFlightMax: state.duty.connection.ledger.inFlightMax,
                linkBytesPerSecond: state.duty.connection.ledger.linkBytesPerSecond, sealsLast: state.orders.sealLast,
                dial: state.orders.dial.take())
        }
    }
}
