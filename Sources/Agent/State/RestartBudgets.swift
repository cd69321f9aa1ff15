import Journal
import Model
import Protocol
import Synchronization

/// How often guests were started on this host again, and when: counted over the end of the agent.
///
/// The times are those of one run of the host, by a clock that nobody sets. What happened in an earlier one counts as having happened
/// when this one began.
package final class RestartBudgets: Sendable {
    private let standard: RestartBudget
    private let store: VMStore
    private let clock: JournalClock
    private let budgets = Mutex<[VMName: RestartBudget]>([:])

    package init(_ standard: RestartBudget, _ store: VMStore, clock: JournalClock = .system) {
        (self.standard, self.store, self.clock) = (standard, store, clock)
    }

    /// Returns when what it changed is on stable storage. Where it cannot be put there it counts for this run of the agent.
    package func change<Result>(_ vm: VMName, _ body: (inout RestartBudget, UInt64) -> Result) -> Result {
        let time = clock.now()
        let now = UInt64(max(0, time.boot))
        return budgets.withLock { budgets in
            let before =
                budgets[vm] ?? standard.spent(store[vm].restarts?.past(inBoot: time.bootID) ?? .init(), by: now)
            var budget = before
            let result = body(&budget, now)
            budgets[vm] = budget
            if budget.past != before.past {
                try? store.update(vm) { $0.restarts = PastRestarts(bootID: time.bootID, past: budget.past) }
            }
            return result
        }
    }
}

/// As it is stored.
package struct PastRestarts: Codable, Sendable {
    /// Which boot of the host, as `/proc/sys/kernel/random/boot_id` names it.
    package var bootID: String
    package var past: RestartBudget.Past

    package init(bootID: String, past: RestartBudget.Past) { (self.bootID, self.past) = (bootID, past) }

    /// By the clock of that boot, which began at 0.
    func past(inBoot id: String) -> RestartBudget.Past {
        guard bootID != id else { return past }
        var past = past
        past.starts = past.starts.map { _ in 0 }
        past.movedAt = past.movedAt.map { _ in 0 }
        return past
    }
}
