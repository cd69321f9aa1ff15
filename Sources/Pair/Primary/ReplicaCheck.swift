import Hypervisor
import LinuxSystem
import Memory
import Model
import Protocol
import Wire

/// Comparing the replica's memory with the guest's, page by page, while the guest runs.
struct ReplicaCheck {
    /// No checkpoint, or no answer, within this: the verification is given up. In nanoseconds.
    private static let patience: UInt64 = 60_000_000_000

    private let shell: PrimaryShell

    init(_ shell: PrimaryShell) { self.shell = shell }

    func run(_ goesOn: (MemoryVerdict) -> Bool) throws(SessionError) -> MemoryVerdict {
        let (id, guest) = try begin()
        defer { shell.verification.end() }
        NamedThread.giveWay()
        let reading: VerificationReading
        do throws(SystemError) {
            reading = try VerificationReading(of: guest.process.pid, guest.trackedPlaces)
        } catch {
            throw SessionError(.system, "the memory of \(shell.options.vm) cannot be read: \(error)")
        }
        return try verify(VerificationPlan(guest.ramBlocks), reading, id, goesOn)
    }

    private func verify(
        _ plan: consuming VerificationPlan, _ reading: consuming VerificationReading, _ id: SessionID,
        _ goesOn: (MemoryVerdict) -> Bool
    ) throws(SessionError) -> MemoryVerdict {
        let began = MonotonicClock.now()
        func look(_ verdict: MemoryVerdict) throws(SessionError) {
            try check(id)
            guard goesOn(verdict) else { throw SessionError(.refused, "the verification was called off") }
        }
        repeat {
            while let batch = try read(&plan, &reading) {
                try look(plan.verdict)
                let answer = try awaitAnswer { () throws(SessionError) in try look(plan.verdict) }
                shell.verification.mend(plan.take(reading.batch(batch, answer)))
            }
        } while plan.beginRound()
        while shell.verification.isMending {
            try look(plan.verdict)
            MonotonicClock.sleep(until: MonotonicClock.now() + 20_000_000)
        }
        return plan.verdict.over(after: MonotonicClock.now() - began)
    }

    /// Why not, or the session and the guest.
    private func begin() throws(SessionError) -> (SessionID, GuestDescription) {
        func refused(_ reason: String) -> SessionError {
            SessionError(.refused, "the replica of \(shell.options.vm) cannot be verified now: \(reason)")
        }
        let level = shell.state.withLock { $0.duty.machine.level }
        guard level.holdsOutput else { throw refused("at level \(level.rawValue) it has no memory") }
        let status = shell.status
        guard status.phase == .protected, status.acknowledged > .firstCopy else {
            throw refused("it is \(status.phase.rawValue), not protected")
        }
        let (id, guest, canVerify, isPaused) = shell.state.withLock {
            ($0.duty.connection.session, $0.guest, $0.duty.connection.canVerify, $0.duty.isGuestPaused)
        }
        guard canVerify else {
            throw refused("the agent of \(shell.options.standby) is older and does not know how: update it")
        }
        guard !isPaused else {
            throw refused("somebody paused the guest, so there are no checkpoints: let it run on first")
        }
        guard let guest else { throw refused("its guest was not found yet") }
        guard shell.verification.begin(id) else { throw refused("that is being done already: wait for its end") }
        return (id, guest)
    }

    /// Throws when the session that is verified is not what it was.
    private func check(_ id: SessionID) throws(SessionError) {
        let (phase, reason) = (shell.status.phase, shell.status.lastError)
        let (current, isPaused, linkDown) = shell.state.withLock {
            ($0.duty.connection.session, $0.duty.isGuestPaused, $0.duty.connection.linkDown)
        }
        if phase != .protected || current != id || linkDown != nil {
            let why = linkDown ?? reason ?? "no reason given"
            throw SessionError(
                .peerLost, "protection of \(shell.options.vm) ended while its replica was verified: \(why)")
        }
        if isPaused {
            throw SessionError(
                .refused, "somebody paused \(shell.options.vm) while its replica was verified: let it run on first")
        }
    }

    /// Reads the next batch, until a seal begins or it is full. Nil at the end of a round.
    private func read(
        _ plan: inout VerificationPlan, _ reading: inout VerificationReading
    ) throws(SessionError) -> [PageRun]? {
        shell.verification.open()
        reading.begin()
        var runs: [PageRun] = []
        var pages = 0
        while pages < VerifyQuestion.pagesMax,
            let run = plan.next(min(VerificationReading.pagesAtOnce, VerifyQuestion.pagesMax - pages))
        {
            do throws(SystemError) {
                try reading.add(run)
            } catch {
                throw SessionError(.system, "the memory of \(shell.options.vm) cannot be read: \(error)")
            }
            guard shell.verification.add(run) else {
                reading.dropLast(run)
                plan.putBack(run)
                break
            }
            runs.append(run)
            pages += Int(run.count)
        }
        guard !runs.isEmpty else { return nil }
        shell.verification.close()
        shell.wake.signal()
        return runs
    }

    private func awaitAnswer(
        _ look: () throws(SessionError) -> Void
    ) throws(SessionError) -> MemoryVerification.Answer {
        let deadline = MonotonicClock.now() + Self.patience
        while MonotonicClock.now() < deadline {
            if let answer = shell.verification.awaitAnswer(200_000_000) { return answer }
            try look()
        }
        throw SessionError(
            .peerLost,
            "\(shell.options.standby) did not tell of the memory of \(shell.options.vm) within"
                + " \(Self.patience / 1_000_000_000) s: it may be busy, verify it again later")
    }
}

extension MemoryVerdict {
    fileprivate func over(after duration: UInt64) -> MemoryVerdict {
        var verdict = self
        verdict.duration = duration
        return verdict
    }
}
