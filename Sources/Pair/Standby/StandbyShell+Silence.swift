import LinuxSystem
import Protocol
import Shipping
import Transport
import Wire

/// Whether the primary is there.
extension StandbyShell {
    /// Keeps the link warm, and looks at it. Returns when to look again.
    func beat(_ isDue: Bool) -> UInt64 {
        state.withLock { state in
            let now = MonotonicClock.now()
            if replica.recovering, !state.hasStarted, now > startedAt + state.watch.ceiling {
                state.hasStarted = true
                state.takeOver = TakeOverRequest(
                    cause: .primaryLost, reason: "this agent was restarted", decidedAt: now)
                perform(state.machine.handle(.started), &state)
                wake.signal()
            }
            if let held = state.heldBack, now >= held.until || !state.watch.hostLives { stopHoldingBack(&state) }
            guard let link = state.link else { return state.heldBack == nil ? .max : now }
            if isDue { link.send(controlFrame(Heartbeat(sent: now, echo: 0))) }
            keepArbiterNear(now, &state)
            link.look { [weak self] in self?.judge($0, of: link) }
            return state.watch.due
        }
    }

    /// Who is asked for the first time has to be dialled, its certificate looked at, and its store remembered durably: that
    /// is done before it counts. What the register says is not used.
    private func keepArbiterNear(_ now: UInt64, _ state: inout State) {
        guard case .holding = state.machine.state, let arbiter = custody.arbiter, now >= state.nextReading else {
            return
        }
        state.nextReading = now + Self.readingPeriod
        Task.detached { [vm] in _ = await arbiter.read(vm) }
    }

    func judge(_ sight: LinkSight, of link: Link) {
        state.withLock { state in
            guard state.link === link, let reason = state.watch.look(sight, isReading: !state.readingPaused) else {
                return
            }
            link.close()
            loseLink(reason, &state)
            wake.signal()
        }
    }

    /// The link is gone. While the primary's host is heard, the primary is let ask the arbiter first: it has the guest,
    /// and whoever moves a guest that is well does so needlessly. It had the ceiling to notice; it gets as long again.
    func loseLink(_ reason: String, _ state: inout State) {
        state.link = nil
        state.watch.linkClosed()
        guard case .holding = state.machine.state, !custody.rule.isManual, state.watch.hostLives else {
            return losePrimary(reason, &state)
        }
        state.heldBack = (reason, MonotonicClock.now() + state.watch.ceiling)
        state.status.phase = .peerLost
        state.status.lastError = reason
        report(
            .event(
                .detected,
                "the link is down, and \(offer.session.primary) is heard over the second path: it may ask the arbiter"
                    + " first, for \(state.watch.ceiling / 1_000_000) ms (\(reason))"))
    }

    /// The primary had its time, or is not heard any more, or the operator wants something.
    func stopHoldingBack(_ state: inout State) {
        guard let held = state.heldBack else { return }
        state.heldBack = nil
        let now = state.watch.hostLives ? "and the primary said nothing since" : "and now its host is silent too"
        losePrimary("\(held.reason), \(now)", &state)
        wake.signal()
    }
}
