import Hypervisor
import LinuxSystem
import Model
import Protocol

/// Asks the agent that runs in the guest whether it is there, and resets a guest that hangs. Used by the shell's thread between what
/// else it does; nothing of it waits for the guest.
final class GuestAgentWatch {
    private unowned let shell: PrimaryShell
    private let line: any GuestAgentLine
    private var machine: GuestAgentMachine
    private var nextLook: UInt64 = 0
    private var nextOpening: UInt64 = 0
    private static let lookPeriodMax: UInt64 = 1_000_000_000
    /// Beyond this, in nanoseconds, and some heartbeats, the other host is silent: what the guest writes may wait for it.
    fileprivate static let quietMax: UInt64 = 2_000_000_000
    /// A checkpoint that follows sooner might come between a question and its arrival in the guest's memory.
    private static let arrival: UInt64 = 1_000_000

    /// Nil where it is not wanted, or this guest has no such agent; then it is told of.
    init?(_ shell: PrimaryShell, _ guest: any Guest) {
        let seconds = shell.options.agentSilenceSeconds
        guard seconds > 0 else { return nil }
        do throws(SessionError) {
            line = try guest.agentLine()
        } catch {
            let what = "the guest agent of \(shell.options.vm) cannot be asked, so its silence is not noticed"
            shell.report(.event(.error, "\(what): \(error.message)"))
            return nil
        }
        self.shell = shell
        machine = GuestAgentMachine(
            silence: UInt64(seconds) * 1_000_000_000, number: .random(in: 1...(1 << 48)))
    }

    /// What the guest's hypervisor told.
    func hear(_ news: GuestNews) {
        switch news {
        case .reset: machine.started()
        case .paused, .resumed: machine.forgive()
        case .portChanged(let port, let isOpen) where port == line.port && !isOpen: noteClosed()
        case .portChanged, .shutdown, .hung, .deviceRemoved, .mirrorFailed: break
        }
    }

    /// To be called again and again. Returns after how long there is something to do, in nanoseconds.
    /// - Parameters:
    ///   - isExcused: the guest stands still.
    ///   - pause: how long the guest runs on at least, as far as is known.
    ///   - attach: gives the guest's handle, where it is not at hand.
    func look(
        isExcused: Bool, pause: UInt64 = .max, _ attach: () throws(SessionError) -> any Guest
    ) -> UInt64 {
        let now = MonotonicClock.now()
        guard now >= nextLook else { return nextLook - now }
        let period = min(machine.period / 2, Self.lookPeriodMax)
        nextLook = now + period
        if line.isOpen {
            for number in line.takeAnswers() where machine.answered(number, at: now) { noteAnswer() }
        }
        if !line.isOpen, now >= nextOpening { open(now) }
        guard line.isOpen else { return period }
        switch machine.look(isExcused: isExcused || !shell.isSteady(now), mayAsk: pause >= Self.arrival, at: now) {
        case .ask(let number): line.ask(number)
        case .renew: open(now)
        case .look:
            do throws(SessionError) {
                try judge(try attach())
            } catch {
                // Whether it runs is not known.
                machine.forgive()
                shell.log.notice("\(shell.options.vm) does not answer, and cannot be looked at: \(error.message)")
            }
        case nil: break
        }
        return period
    }

    private func open(_ now: UInt64) {
        nextOpening = now + machine.period
        line.open()
        machine.opened(at: now)
    }

    private func judge(_ guest: any Guest) throws(SessionError) {
        let (isRunning, isPortOpen) = (try guest.isRunning(), try guest.isAgentPortOpen(line))
        switch machine.saw(isRunning: isRunning, isPortOpen: isPortOpen, at: MonotonicClock.now()) {
        case .hangs(let silent):
            do throws(SessionError) {
                try guest.reset()
                shell.report(.guestHung(.agentSilent(seconds: silent / 1_000_000_000)))
            } catch {
                shell.report(.failure(error))
            }
        case .gone: noteGone()
        case nil: break
        }
    }

    private func noteClosed() {
        if machine.closed() { noteGone() }
    }

    private func noteGone() {
        shell.report(
            .event(
                .state,
                "the guest agent ended, or the guest boots: until it answers again its silence says nothing"))
    }

    private func noteAnswer() {
        shell.report(
            .event(
                .state,
                "the guest agent answers: the guest is reset should it not do so for \(shell.options.agentSilenceSeconds) s"
            ))
    }
}

extension PrimaryShell {
    /// This host has the right to run the guest, and nothing that the guest waits for is away, as far as is known.
    fileprivate func isSteady(_ now: UInt64) -> Bool {
        let state = state.withLock { $0.duty.machine.state }
        switch state {
        case .solo, .offering: return true
        case .copying, .pairing, .paired:
            let heartbeats = 3 * UInt64(options.heartbeatMilliseconds) * 1_000_000
            return lastHeard > 0 && now < lastHeard + max(GuestAgentWatch.quietMax, heartbeats)
        case .adopting, .handingOver, .lonely, .frozen, .forked, .fencing, .fenced, .ended: return false
        }
    }
}
