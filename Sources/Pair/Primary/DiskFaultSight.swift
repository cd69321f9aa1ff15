import Protocol

/// What is done when a disk of the guest fails at the guest's own host, while a standby could go on with it.
public enum DiskFaultPolicy: String, Sendable {
    case failover
    /// The guest sees it.
    case report
}

/// What is known where a disk of the guest failed, and what follows: the standby goes on with the guest as it was before that, or
/// the guest lives with it. All times in nanoseconds.
package struct DiskFaultSight: Sendable {
    /// What the operator wants.
    var policy: DiskFaultPolicy
    /// False while the arbiter is known not to answer; true where there is none.
    var isArbiterUp: Bool
    /// For how long the standby was not heard.
    var silence: UInt64
    /// For how long this host has the guest.
    var tenure: UInt64
    /// The least silence that is borne: one that is no longer says nothing.
    var borne = DiskFaultSight.freshMax

    /// A standby that was not heard for longer may be lost as well.
    package static let freshMax: UInt64 = 300_000_000
    /// A guest that came here by a failover stays for so long: disks that fail at both hosts do not pass it to and fro.
    package static let tenureMin: UInt64 = 60_000_000_000

    package init(policy: DiskFaultPolicy, isArbiterUp: Bool, silence: UInt64, tenure: UInt64) {
        self.policy = policy
        self.isArbiterUp = isArbiterUp
        self.silence = silence
        self.tenure = tenure
    }

    /// Nil when the standby goes on; else why the guest has to live with the fault.
    package func reasonToLiveWithIt(_ duty: PrimaryDuty) -> String? {
        guard policy == .failover else { return "disk_fault is “report”" }
        let level = duty.machine.level
        guard level.holdsOutput else { return "at level \(level.rawValue) no host has its memory" }
        guard duty.machine.isReplaceable else { return "no standby can go on with it now" }
        guard isArbiterUp else { return "the arbiter does not answer, and nobody goes on without its word" }
        guard duty.connection.linkDown == nil, silence <= max(Self.freshMax, borne) else {
            return "the standby was not heard of for \(silence / 1_000_000) ms"
        }
        if duty.names.tookOver, tenure < Self.tenureMin {
            return "it came here by a failover \(tenure / 1_000_000_000) s ago"
        }
        return nil
    }
}
