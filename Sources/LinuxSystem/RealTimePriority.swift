import CLinux
import Glibc

/// Real-time scheduling (SCHED_RR) for some threads of this or another process, undone with its owner.
///
/// Threads that they start meanwhile get the ordinary policy (SCHED_RESET_ON_FORK), so nothing is left behind. Needs
/// CAP_SYS_NICE.
public struct RealTimePriority: ~Copyable, Sendable {
    private struct Former: Sendable {
        var thread: pid_t
        var policy: Int32
        var priority: Int32
    }
    private let former: [Former]

    /// Raises each of `threads` (thread ids) to `priority` (1-99). A thread that ended meanwhile is left out; any other
    /// failure undoes what was done and is thrown.
    public init(threads: [pid_t], priority: Int32) throws(SystemError) {
        var raised: [Former] = []
        for thread in threads {
            var before: Int32 = 0
            let policy = rml_get_scheduling(thread, &before)
            let result = policy < 0 ? policy : rml_set_scheduling(thread, rml_round_robin(), priority)
            if result == -ESRCH { continue }
            if result < 0 {
                Self.restore(raised)
                throw SystemError(
                    operation: "give real-time priority to", errno: -result, subject: "thread \(thread)",
                    advice: "grant the agent CAP_SYS_NICE, or switch real-time scheduling off in its configuration")
            }
            // A process that was killed leaves what it raised as it is: that is not what to go back to.
            let isLeftover = policy == rml_round_robin() && before == priority
            raised.append(
                isLeftover
                    ? Former(thread: thread, policy: SCHED_OTHER, priority: 0)
                    : Former(thread: thread, policy: policy, priority: before))
        }
        former = raised
    }

    deinit { Self.restore(former) }

    /// How many threads were raised.
    public var count: Int { former.count }

    private static func restore(_ former: [Former]) {
        // A thread that has ended needs nothing.
        for each in former { _ = rml_set_scheduling(each.thread, each.policy, each.priority) }
    }
}
