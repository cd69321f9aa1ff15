import Model
import Protocol
import Testing

private let second: UInt64 = 1_000_000_000
private let timing = LeaseTiming.standard

extension [LeaseMachine.Action] {
    /// The numbers of the questions that are asked, of the arbiter or the standby.
    fileprivate func asked(_ source: LeaseMachine.Source) -> [UInt64] {
        compactMap { if case .ask(source, let question) = $0 { question } else { nil } }
    }
    fileprivate func without() -> [LeaseMachine.Action] {
        filter { action in
            switch action {
            case .ask, .report: false
            default: true
            }
        }
    }
}

@Suite struct LeaseMachineTests {
    /// An owner at term 5 whose guest runs, with the questions that it asked at second 100.
    private func owner() -> (machine: LeaseMachine, arbiter: UInt64, standby: UInt64) {
        var machine = LeaseMachine(seed: 1)
        let actions = machine.handle(.won(Term(5), .goingOn), at: 100 * second)
        return (machine, actions.asked(.arbiter)[0], actions.asked(.standby)[0])
    }

    @Test func theWaitCoversTheSlowestOwnerAndTheFastestTaker() {
        let owner = Double(timing.length + timing.margin) / (1 - 0.101)
        let taker = Double(timing.wait) / (1 + 0.101)
        #expect(taker >= owner && taker < owner * 1.001)
    }

    @Test func aWinOpensNothing() {
        var machine = LeaseMachine(seed: 1)
        let actions = machine.handle(.won(Term(5), .goingOn), at: 100 * second)
        #expect(actions.without() == [])
        #expect(machine.state == .shut(Term(5)))
    }

    @Test func aLeaseCountsFromTheQuestion() {
        var (machine, question, _) = owner()
        #expect(
            machine.handle(.confirmed(question: question, Term(5)), at: 102 * second) == [.open(until: 103 * second)])
        let next = machine.handle(.timer, at: 102 * second + 1).asked(.arbiter)
        #expect(
            machine.handle(.confirmed(question: next[0], Term(5)), at: 102 * second + 2)
                == [.renew(until: 105 * second + 1)])
        #expect(machine.state == .open(Term(5), until: 105 * second + 1))
    }

    @Test func thePromiseOfTheStandbyCountsAsMuch() {
        var (machine, _, question) = owner()
        #expect(
            machine.handle(.confirmed(question: question, Term(5)), at: 101 * second) == [.open(until: 103 * second)])
    }

    @Test(arguments: [
        LeaseMachine.Event.confirmed(question: 4711, Term(5)), .confirmed(question: 0, Term(5)), .denied(Term(5)),
        .denied(Term(4)), .standsBy(Term(9)), .asksToTakeOver(Term(5)), .peerFenced, .hadShut,
        .promiseAsked(question: 1, Term(5)), .won(Term(5), .toStart),
    ])
    func whatProvesNothingChangesNothing(_ event: LeaseMachine.Event) {
        var (machine, _, _) = owner()
        let before = machine
        #expect(machine.handle(event, at: 100 * second + 1) == [])
        #expect(machine == before)
    }

    @Test func anAnswerCountsOnceForItsTermAndBeforeItsEnd() {
        var (machine, question, other) = owner()
        #expect(machine.handle(.confirmed(question: question, Term(4)), at: 101 * second) == [])
        #expect(machine.handle(.confirmed(question: question, Term(6)), at: 101 * second) == [])
        #expect(machine.handle(.confirmed(question: question, Term(5)), at: 103 * second) == [], "its time is over")
        #expect(machine.handle(.confirmed(question: question, Term(5)), at: 101 * second) == [], "it was used up")
        #expect(machine.handle(.confirmed(question: other, Term(5)), at: 101 * second) != [])
    }

    @Test func anOlderAnswerDoesNotShortenALease() {
        var (machine, first, _) = owner()
        let second101 = machine.handle(.timer, at: 101 * second).asked(.arbiter)[0]
        #expect(
            machine.handle(.confirmed(question: second101, Term(5)), at: 101 * second + 1)
                == [.open(until: 104 * second)])
        #expect(machine.handle(.confirmed(question: first, Term(5)), at: 101 * second + 2) == [])
        #expect(machine.state == .open(Term(5), until: 104 * second))
    }

    @Test func silenceShuts() {
        var (machine, question, _) = owner()
        _ = machine.handle(.confirmed(question: question, Term(5)), at: 100 * second + 1)
        var now = 100 * second
        while machine.state != .shut(Term(5)) {
            now = machine.nextTimer!
            _ = machine.handle(.timer, at: now)
            #expect(now <= 103 * second)
        }
        #expect(now == 103 * second)
        #expect(machine.nextTimer != nil, "it goes on asking")
    }

    @Test func whoIsDeposedShutsAtOnceForGood() {
        var (machine, question, standby) = owner()
        _ = machine.handle(.confirmed(question: question, Term(5)), at: 100 * second + 1)
        #expect(machine.handle(.denied(Term(6)), at: 100 * second + 2).without() == [.close])
        #expect(machine.state == .idle && machine.nextTimer == nil)
        #expect(machine.handle(.confirmed(question: standby, Term(5)), at: 100 * second + 3) == [])
    }

    @Test func whoTakesOverWaitsAndThenOpens() {
        var machine = LeaseMachine(seed: 1)
        _ = machine.handle(.standsBy(Term(5)), at: 90 * second)
        _ = machine.handle(.asksToTakeOver(Term(5)), at: 99 * second)
        var actions = machine.handle(.won(Term(6), .toStart), at: 100 * second)
        let end = 100 * second + timing.wait
        #expect(machine.state == .waiting(Term(6), until: end))
        while true {
            for question in actions.asked(.arbiter) {
                actions = machine.handle(.confirmed(question: question, Term(6)), at: machine.nextTimer! - 1)
                #expect(actions == [])
            }
            let now = machine.nextTimer!
            actions = machine.handle(.timer, at: now)
            if now >= end { break }
            #expect(actions.without() == [])
        }
        #expect(actions.first { $0 == .mayRun } != nil)
        guard case .open(let until) = actions.last else {
            Issue.record("the gate is not opened: \(actions)")
            return
        }
        #expect(until > end && until < end + timing.length)
    }

    @Test func aWaitGoesOnUntilItIsConfirmed() {
        var machine = LeaseMachine(seed: 1)
        _ = machine.handle(.won(Term(6), .toStart), at: 100 * second)
        let now = 100 * second + timing.wait + second
        let actions = machine.handle(.timer, at: now)
        #expect(actions.without() == [])
        #expect(machine.nextTimer! > now)
        #expect(
            machine.handle(.confirmed(question: actions.asked(.arbiter)[0], Term(6)), at: now + 1)
                == [.mayRun, .open(until: now + timing.length)])
    }

    @Test func aConfirmationThatRanOutDuringTheWaitStartsNothing() {
        var machine = LeaseMachine(seed: 1)
        let question = machine.handle(.won(Term(6), .toStart), at: 100 * second).asked(.arbiter)[0]
        _ = machine.handle(.confirmed(question: question, Term(6)), at: 101 * second)
        let late = 100 * second + timing.wait
        #expect(machine.handle(.timer, at: late).without() == [])
        #expect(machine.handle(.denied(Term(7)), at: late + 1).without() == [.close])
        #expect(machine.state == .idle)
    }

    @Test func confirmedFencingEndsTheWait() {
        var machine = LeaseMachine(seed: 1)
        let question = machine.handle(.won(Term(6), .toStart), at: 100 * second).asked(.arbiter)[0]
        _ = machine.handle(.confirmed(question: question, Term(6)), at: 100 * second + 1)
        #expect(
            machine.handle(.peerFenced, at: 101 * second).without() == [.mayRun, .open(until: 103 * second)])
    }

    @Test func aTermWonWhileWaitingDoesNotShortenTheWait() {
        var machine = LeaseMachine(seed: 1)
        _ = machine.handle(.won(Term(6), .toStart), at: 100 * second)
        _ = machine.handle(.won(Term(7), .goingOn), at: 101 * second)
        #expect(machine.state == .waiting(Term(7), until: 100 * second + timing.wait))
        _ = machine.handle(.won(Term(8), .toStart), at: 102 * second)
        #expect(machine.state == .waiting(Term(8), until: 102 * second + timing.wait))
    }

    /// Its first start was waited for, and it is proven dead: a fresh confirmation is all that is needed.
    @Test func aRestartHereWithProofWaitsForAConfirmationOnly() {
        var (machine, question, standby) = owner()
        _ = machine.handle(.confirmed(question: question, Term(5)), at: 100 * second + 1)
        let asked = machine.handle(.won(Term(6), .restarting), at: 101 * second)
        #expect(asked.without() == [.close])
        #expect(machine.handle(.confirmed(question: standby, Term(6)), at: 101 * second + 1) == [], "asked before")
        #expect(
            machine.handle(.confirmed(question: asked.asked(.arbiter)[0], Term(6)), at: 101 * second + 2)
                == [.mayRun, .open(until: 104 * second)])
    }

    @Test func aRestartDoesNotShortenAWaitForSomebodyElse() {
        var machine = LeaseMachine(seed: 1)
        _ = machine.handle(.won(Term(6), .toStart), at: 100 * second)
        _ = machine.handle(.won(Term(7), .restarting), at: 101 * second)
        #expect(machine.state == .waiting(Term(7), until: 100 * second + timing.wait))
    }

    @Test func aStandbyPromisesUntilItAsks() {
        var machine = LeaseMachine(seed: 1)
        #expect(machine.handle(.promiseAsked(question: 1, Term(5)), at: second) == [])
        _ = machine.handle(.standsBy(Term(5)), at: second)
        #expect(
            machine.handle(.promiseAsked(question: 2, Term(5)), at: second) == [.promise(question: 2, Term(5))])
        #expect(machine.handle(.promiseAsked(question: 3, Term(4)), at: second) == [])
        _ = machine.handle(.asksToTakeOver(Term(5)), at: second)
        #expect(machine.handle(.promiseAsked(question: 4, Term(5)), at: second) == [])
        _ = machine.handle(.standsBy(Term(5)), at: second)
        #expect(machine.handle(.promiseAsked(question: 5, Term(5)), at: second) == [], "it asked to end that term")
        _ = machine.handle(.standsBy(Term(6)), at: second)
        #expect(machine.handle(.promiseAsked(question: 6, Term(6)), at: second) != [])
    }

    @Test func aRefusedRenewalTakesAFreshQuestion() {
        var (machine, question, standby) = owner()
        _ = machine.handle(.confirmed(question: question, Term(5)), at: 100 * second + 1)
        let fresh = machine.handle(.hadShut, at: 102 * second).asked(.arbiter)
        #expect(machine.state == .shut(Term(5)))
        #expect(machine.handle(.confirmed(question: standby, Term(5)), at: 102 * second + 1) == [])
        #expect(
            machine.handle(.confirmed(question: fresh[0], Term(5)), at: 102 * second + 2)
                == [.open(until: 105 * second)])
    }

    @Test func anotherTermOfTheOwnerKeepsTheGateOpen() {
        var (machine, question, _) = owner()
        _ = machine.handle(.confirmed(question: question, Term(5)), at: 100 * second + 1)
        #expect(machine.handle(.won(Term(6), .goingOn), at: 101 * second).without() == [])
        #expect(machine.state == .open(Term(6), until: 103 * second))
        #expect(machine.handle(.ended, at: 101 * second) == [.close])
        #expect(machine.state == .idle)
    }
}
