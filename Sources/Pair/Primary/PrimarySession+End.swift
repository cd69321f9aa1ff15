import Hypervisor
import LinuxSystem
import Model
import Shipping

/// How a session ends, and what of the guest is taken apart then.
extension PrimarySession {
    func guestEnded(_ reason: String) -> String {
        // The pair is given up at the arbiter too, so that the guest can be started and protected again.
        shell.tell { $0.leaveInOrder() }
        let deadline = MonotonicClock.now() + 5_000_000_000
        while MonotonicClock.now() < deadline, shell.state.withLock({ !$0.orders.end }) {
            waitReadable([shell.wake.number], nanoseconds: 20_000_000)
            _ = shell.wake.take()
        }
        shell.handle(.guestEnded)
        return reason
    }

    func guestGone() throws(SessionError) -> String {
        // What was captured whole still goes out, so that the standby resumes from the newest epoch there is; of a copy that was not
        // whole nothing is of use.
        sender.dropsCopy = true
        shipper.close()
        let isGivenAway = shell.state.withLock { $0.duty.machine.state == .fencing }
        shell.handle(.guestLost)
        if isGivenAway { return "another host goes on with the guest" }
        if shell.isRestarting {
            awaitOwnership()
            guard shell.state.withLock({ $0.duty.machine.state == .fenced }) else {
                throw SessionError.guestLost(guest.pid, "died")
            }
        }
        guard shell.state.withLock({ $0.duty.machine.state == .fenced }) else {
            throw SessionError.guestLost(guest.pid, "died, and no standby could go on with it")
        }
        let deadline = MonotonicClock.now() + 2_000_000_000
        while MonotonicClock.now() < deadline, shell.state.withLock({ $0.duty.connection.linkDown == nil }) {
            waitReadable([shell.wake.number], nanoseconds: 20_000_000)
            _ = shell.wake.take()
        }
        if let given = shell.state.withLock({ $0.duty.afterDeath }), given.isGiven {
            throw SessionError(.guestLost, given.text)
        }
        throw SessionError.guestLost(guest.pid, "died; the standby was asked to take over")
    }

    /// The guest is to start here again, once the standby is none any more; or the standby is to start it, where this host cannot.
    /// Until then the session is there.
    private func awaitOwnership() {
        var mustTry = false
        while shell.state.withLock({ $0.duty.machine.session != nil }) {
            mustTry = shell.state.withLock { state in
                defer { state.orders.tryStart = false }
                return mustTry || state.orders.tryStart
            }
            // Nothing of it is to be in the new QEMU's way.
            if mustTry, GuestRestart.isGone(guest.exitDescriptor) {
                mustTry = false
                disks?.endServers()
                restart?.tryStart()
            }
            shell.expectBack(after: 20_000_000)
            waitReadable([shell.wake.number], nanoseconds: 20_000_000)
            _ = shell.wake.take()
        }
    }

    /// Protection cannot go on here: it is ended in order, which takes as long as it takes to win the right to go alone, or
    /// for the operator to decide where that is the operator's.
    func giveUp(_ error: SessionError) {
        guest.letRunOn()
        shell.tell { $0.note(error) }
        shell.tell { $0.leaveInOrder() }
        while guest.isAlive {
            let orders = shell.state.withLock { $0.orders }
            if orders.end || orders.detach || orders.standby != nil { return }
            if orders.killGuest { guest.end(by: shell.end) }
            waitReadable([shell.wake.number, guest.exitDescriptor], nanoseconds: 100_000_000)
            _ = shell.wake.take()
        }
        shell.handle(.guestLost)
    }

    /// Takes filters, mirrors, descriptors and write protection out of QEMU. Never fails: what QEMU refuses is logged.
    func takeDown() {
        priority = nil
        wakefulness.end()
        shell.state.withLock { state in
            shell.perform(state.duty.takeDown(), &state)
            state.gates = []
        }
        shell.state.withLock { $0.parts.carry.take() }?.stop()
        if !guest.isAlive, let dropped = output?.heldFrames, dropped > 0 { shell.report(.dropped(frames: dropped)) }
        if guest.isAlive {
            // Writes that wait for room on the link would keep QEMU from standing still.
            sender.isStopping = true
            guest.whileStopped(for: .detach) { carriers.detach() }
            if waitsForStandby { guest.letRunOn() }
        }
        shell.state.withLock { $0.parts.writes }.close()
        // The link first: a disk's server may be waiting for room on it.
        sender.link.close()
        shipper.close()
        carriers.close()
        guest.close()
    }
}
