import Protocol
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
        var budget = RestartBudget(limit: 0, minutes: 1)
        #expect(budget.startsToTell(at: 0) == nil, "nor does the other host")
    }

    /// Three deaths here, one start there, and that was it.
    @Test func theOtherHostStartsItOnceAndBeginsWithNoFreshBudget() {
        var (here, there) = (RestartBudget(limit: 3, minutes: 10), RestartBudget(limit: 3, minutes: 10))
        for minute in [0, 1, 2] as [UInt64] { #expect(here.take(at: minute * Self.minute) == true) }
        #expect(!here.take(at: 3 * Self.minute) && here.startsToTell(at: 3 * Self.minute) == 3)
        here.giveAway(at: 3 * Self.minute)
        #expect(here.startsToTell(at: 12 * Self.minute) == nil && here.startsToTell(at: 13 * Self.minute) == 1)
        there.takeOver(after: 3, at: 3 * Self.minute)
        #expect(!there.take(at: 4 * Self.minute) && there.startsToTell(at: 4 * Self.minute) == nil)
        // It has run there for longer than anybody counts.
        #expect(there.take(at: 13 * Self.minute) && there.startsToTell(at: 13 * Self.minute) == 1)
    }

    /// A host that could start it no more than once leaves the rest of the budget to the other one.
    @Test func whatIsLeftIsTheOtherHosts() {
        var there = RestartBudget(limit: 3, minutes: 10)
        there.takeOver(after: 1, at: 0)
        #expect(there.take(at: 1) && !there.take(at: 2) && there.startsToTell(at: 2) == nil)
    }
}
