import LinuxSystem
import Messages
import Model
import Protocol
import Shipping
import Transport
import Wire

/// Whether the standby is there.
extension PrimaryShell {
    func beatingHeart(_ accepted: AcceptMessage) throws(SessionError) -> HeartbeatThread {
        let limits = SilenceJudge.Limits(
            floor: options.silenceFloorMilliseconds, ceiling: options.silenceMilliseconds,
            interval: options.heartbeatMilliseconds,
            peerInterval: accepted.heartbeatMilliseconds ?? options.silenceMilliseconds / 5)
        let watch = PeerWatch(limits, secondPath: options.secondPaths[standby], now: MonotonicClock.now())
        state.withLock { $0.parts.watch = watch }
        do throws(SystemError) {
            return try HeartbeatThread(
                "\(options.vm)", milliseconds: options.heartbeatMilliseconds, borne: options.silenceFloorMilliseconds
            ) { [self] in beat($0) }
        } catch {
            throw SessionError(.system, "no thread for the heartbeat of \(options.vm): \(error)")
        }
    }

    /// Keeps the link warm, and looks at it. Returns when to look again.
    private func beat(_ isDue: Bool) -> UInt64 {
        state.withLock { state in
            guard let link = state.parts.link, state.duty.connection.linkDown == nil else { return .max }
            let now = MonotonicClock.now()
            lookForStall(now, &state)
            let outputs = state.duty.beat(at: now) + state.duty.keepLevel(Self.sight(state), at: now)
            if !outputs.isEmpty {
                perform(outputs, &state)
                wake.signal()
            }
            if isDue { link.send(controlFrame(Heartbeat(sent: now, echo: 0))) }
            link.look { [weak self] in self?.judge($0, of: link) }
            return state.parts.watch?.due ?? .max
        }
    }

    private func judge(_ sight: LinkSight, of link: Link) {
        state.withLock { state in
            guard state.parts.link === link, state.duty.connection.linkDown == nil,
                let reason = state.parts.watch?.look(sight)
            else { return }
            perform(state.duty.loseStandby(reason), &state)
            wake.signal()
        }
    }
}
