import Agent
import Testing

@Suite struct RestartBudgetTests {
    private static let minute: UInt64 = 60_000_000_000

    /// What each start comes to, at these minutes.
    private func starts(_ budget: RestartBudget, at minutes: [UInt64]) -> [Bool] {
        var budget = budget
        return minutes.map { budget.take(at: $0 * Self.minute) }
    }

    /// What is long ago does not count, and neither does what was refused.
    @Test func aGuestIsStartedSoOftenWithinTheWindow() {
        let budget = RestartBudget(limit: 2, minutes: 10)
        #expect(starts(budget, at: [0, 5, 6, 10, 10, 15]) == [true, true, false, true, false, true])
    }

    @Test func aLimitOfNothingStartsNothing() {
        #expect(starts(RestartBudget(limit: 0, minutes: 1), at: [0, 100]) == [false, false])
    }
}
