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

    /// An agent that is started anew goes on where the one before was. What is in the future, by a clock that went back, is now.
    @Test func whatWasSpentIsRemembered() {
        var before = RestartBudget(limit: 2, minutes: 10)
        for minute in [0, 5] as [UInt64] { #expect(before.take(at: minute * Self.minute) == true) }
        before.giveAway(at: 6 * Self.minute)
        let fresh = RestartBudget(limit: 2, minutes: 10)
        var after = fresh.spent(before.past, by: 7 * Self.minute)
        #expect(after == before)
        #expect(!after.take(at: 7 * Self.minute) && after.startsToTell(at: 7 * Self.minute) == nil)
        #expect(after.take(at: 10 * Self.minute) && after.startsToTell(at: 16 * Self.minute) == 1)
        var earlier = fresh.spent(before.past, by: Self.minute)
        #expect(!earlier.take(at: 2 * Self.minute) && earlier.startsToTell(at: 2 * Self.minute) == nil)
        #expect(earlier.take(at: 11 * Self.minute) && earlier.startsToTell(at: 11 * Self.minute) == 1)
    }

    /// Whatever a file or the other host says.
    @Test func noMoreIsKeptThanMakesADifference() {
        var past = RestartBudget.Past()
        past.starts = [UInt64](repeating: 5, count: 100_000)
        var budget = RestartBudget(limit: 2, minutes: 10).spent(past, by: 6)
        #expect(budget.past.starts.count == 3 && !budget.take(at: 7))
        budget.takeOver(after: .max, at: 7)
        #expect(budget.past.starts.count == 4 && !budget.take(at: 8))
    }

    /// A host that could start it no more than once leaves the rest of the budget to the other one.
    @Test func whatIsLeftIsTheOtherHosts() {
        var there = RestartBudget(limit: 3, minutes: 10)
        there.takeOver(after: 1, at: 0)
        #expect(there.take(at: 1) && !there.take(at: 2) && there.startsToTell(at: 2) == nil)
    }
}
