import Hypervisor
import LinuxSystem
import Model

/// A disk of the guest fails, or hangs, at this host.
extension PrimarySession {
    /// Ends the guest here, if the standby goes on with it, by throwing that it is gone: nothing of the epoch in which the fault
    /// came has left, or was sealed. Else the guest lives with it.
    func meet(_ fault: DiskFault) throws(SessionError) {
        let reason = shell.reasonToLiveWithFaults
        let isNews = toldFaults.insert(fault.disk ?? "").inserted
        if let reason {
            guard isNews else { return }
            shell.report(.event(.diskFault, "\(fault): the guest sees it, for \(reason)"))
            return shell.report(.diskFault(isFailover: false))
        }
        shell.report(.event(.diskFault, "\(fault): the standby goes on with the guest as it was before"))
        shell.report(.diskFault(isFailover: true))
        guest.kill()
        // What it had begun at a disk that hangs keeps its process, and nothing of the guest runs in that.
        _ = guest.hasEnded(within: Self.lastBreath)
        throw guest.gone
    }

    /// Of which it was heard by now: with the disks drained and before the epoch is sealed, of all in it.
    func meetDiskFaults() throws(SessionError) {
        while let fault = guest.takeDiskFault() { try meet(fault) }
    }

    /// Disks that take longer to be drained hang, where that can be helped. They may wait for room on the link.
    func boundDisks() {
        let mayHang = shell.state.withLock { shell.reasonToLiveWithFaults($0, silence: 0) } != nil
        guest.diskBound = mayHang ? nil : diskBound
    }
}

extension PrimaryShell {
    /// Nil when the standby goes on with a guest whose disk fails now.
    fileprivate var reasonToLiveWithFaults: String? {
        state.withLock { state in
            let now = MonotonicClock.now()
            return reasonToLiveWithFaults(state, silence: now - min(state.parts.link?.lastReceived ?? 0, now))
        }
    }

    fileprivate func reasonToLiveWithFaults(_ state: State, silence: UInt64) -> String? {
        var sight = DiskFaultSight(
            policy: options.diskFaults, isArbiterUp: custody.arbiter?.isUp ?? true, silence: silence,
            tenure: MonotonicClock.now() - takenAt)
        sight.borne = UInt64(options.silenceFloorMilliseconds) * 1_000_000
        return sight.reasonToLiveWithIt(state.duty)
    }
}
