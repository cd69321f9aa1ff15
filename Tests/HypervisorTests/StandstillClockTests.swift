import Hypervisor
import Testing

@Suite struct StandstillClockTests {
    private final class Told {
        var standstills: [Standstill] = []
    }

    private func clock() -> (StandstillClock, Told) {
        var clock = StandstillClock()
        let told = Told()
        clock.report = { told.standstills.append($0) }
        return (clock, told)
    }

    @Test func everyMomentIsAccountedForByWhatItWasWaitedFor() {
        var (clock, told) = clock()
        clock.passed(.copy, now: 5)
        clock.end(after: .resume, now: 9)
        #expect(told.standstills.isEmpty, "the guest ran")
        clock.begin(.attach, now: 1000)
        clock.passed(.stop, now: 1300)
        clock.passed(.change, now: 1350)
        clock.passed(.stop, now: 1500)
        clock.end(after: .resume, now: 1900)
        clock.end(after: .resume, now: 3000)
        #expect(
            told.standstills == [
                Standstill(cause: .attach, nanoseconds: 900, longest: .stop, waited: 450, isToBeTold: false)
            ])
    }

    /// A guest that is held until its output has left goes into its checkpoint without running in between.
    @Test func aGuestThatStandsStillAlreadyDoesSoForWhatItBeganWith() {
        var (clock, told) = clock()
        clock.begin(.output, now: 0)
        clock.passed(.stop, now: 10)
        clock.begin(.checkpoint, now: 500)
        clock.passed(.stop, now: 510)
        clock.end(after: .resume, now: 530)
        clock.begin(.checkpoint, now: 600)
        clock.become(.switchover)
        clock.end(after: .standby, now: 700)
        clock.begin(.frozen, now: 800)
        clock.forget()
        clock.end(after: .standby, now: 900)
        #expect(
            told.standstills == [
                Standstill(cause: .output, nanoseconds: 530, longest: .standby, waited: 490, isToBeTold: false),
                Standstill(cause: .switchover, nanoseconds: 100, longest: .standby, waited: 100, isToBeTold: false),
            ])
    }

    @Test func oneThatIsTooLongIsToldOnceAndAgainWhenItDoubles() {
        var (clock, told) = clock()
        let bound = Standstill.Cause.checkpoint.bound!
        for length in [bound, bound + 1, bound + 2, 2 * bound, 2 * bound + 3] {
            clock.begin(.checkpoint, now: 0)
            clock.end(after: .stop, now: length)
        }
        let lengths = told.standstills.filter(\.isToBeTold).map(\.nanoseconds)
        #expect(lengths == [bound + 1, 2 * bound + 3])
        clock.begin(.frozen, now: 0)
        clock.end(after: .standby, now: 3_600_000_000_000)
        #expect(told.standstills.last?.cause == .frozen && told.standstills.last?.isToBeTold == false)
    }
}
