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
            lookForHang(now, &state)
            let outputs = state.duty.beat(at: now, hostLives: state.watch.hostLives)
            if !outputs.isEmpty {
                perform(outputs, &state)
                wake.signal()
            }
            guard let link = state.link else { return state.duty.heldBack == nil ? .max : now }
            if isDue { link.send(controlFrame(Heartbeat(sent: now, echo: 0))) }
            keepArbiterNear(now, &state)
            link.look { [weak self] in self?.judge($0, of: link) }
            return state.watch.due
        }
    }

    private func lookForHang(_ now: UInt64, _ state: inout State) {
        let error = state.applyWatch.look(at: now, begun: imageWork.begun, progress: replica.disks.progress)
        guard let error, state.link != nil else { return }
        fail(error, &state)
        wake.signal()
    }

    /// Who is asked for the first time has to be dialled, its certificate looked at, and its store remembered durably: that
    /// is done before it counts. What the register says is not used.
    private func keepArbiterNear(_ now: UInt64, _ state: inout State) {
        guard case .holding = state.duty.machine.state, let arbiter = custody.arbiter, now >= state.nextReading else {
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
            loseLink(reason, &state)
            wake.signal()
        }
    }

    func loseLink(_ reason: String, _ state: inout State) {
        state.watch.linkClosed()
        perform(
            state.duty.loseLink(reason, at: MonotonicClock.now(), hostLives: state.watch.hostLives), &state)
    }
}
