import Model
import Protocol
import Testing

@Suite struct StandbyMachineTests {
    private func holding(staged: UInt64, applied: UInt64) -> StandbyMachine {
        var machine = StandbyMachine()
        for epoch in 1...staged { _ = machine.handle(.staged(Epoch(epoch))) }
        if applied > 0 { for epoch in 1...applied { _ = machine.handle(.applied(Epoch(epoch))) } }
        return machine
    }

    @Test func stagedWholeIsAcknowledgedThenApplied() {
        var machine = StandbyMachine()
        #expect(machine.handle(.staged(Epoch(1))) == [.acknowledge(Epoch(1)), .apply(Epoch(1))])
        #expect(machine.handle(.staged(Epoch(2))) == [.acknowledge(Epoch(2)), .apply(Epoch(2))])
    }

    @Test func aGapIsRefusedAndNotAcknowledged() {
        var machine = holding(staged: 2, applied: 1)
        guard case .refuse = machine.handle(.staged(Epoch(4))).first else {
            Issue.record("a gap was accepted")
            return
        }
        #expect(machine.state == .holding(staged: Epoch(2), applied: Epoch(1)))
    }

    @Test func takeOverWaitsForEverythingCommitted() {
        var machine = holding(staged: 4, applied: 2)
        #expect(machine.handle(.takeOver) == [.discard(after: Epoch(4))])
        #expect(machine.handle(.applied(Epoch(3))) == [])
        #expect(machine.handle(.applied(Epoch(4))) == [.resume(from: Epoch(4))])
        #expect(machine.state == .running(from: Epoch(4)))
    }

    @Test func nothingIsAcknowledgedAfterTheDecisionToTakeOver() {
        var machine = holding(staged: 4, applied: 4)
        #expect(machine.handle(.takeOver) == [.discard(after: Epoch(4)), .resume(from: Epoch(4))])
        #expect(machine.handle(.staged(Epoch(5))) == [])
        var waiting = holding(staged: 4, applied: 3)
        _ = waiting.handle(.takeOver)
        #expect(waiting.handle(.staged(Epoch(5))) == [])
    }

    @Test func aLostPrimaryIsReportedAndTheReplicaKept() {
        var machine = holding(staged: 4, applied: 4)
        #expect(machine.handle(.linkLost) == [.discard(after: Epoch(4)), .reportPrimaryLost])
        #expect(machine.handle(.staged(Epoch(5))) == [])
        #expect(machine.handle(.takeOver) == [.discard(after: Epoch(4)), .resume(from: Epoch(4))])
    }

    @Test func anIncompleteCopyIsNotResumed() {
        var machine = StandbyMachine()
        guard case .refuse = machine.handle(.takeOver).first else {
            Issue.record("resumed from an incomplete copy")
            return
        }
        #expect(machine.handle(.linkLost) == [.dismantle])
        guard case .refuse = machine.handle(.takeOver).first else {
            Issue.record("resumed a dismantled replica")
            return
        }
    }

    @Test func aRecoveredReplicaWaitsForTheOperator() {
        var machine = StandbyMachine(recovered: Epoch(7))
        #expect(machine.handle(.staged(Epoch(8))) == [])
        #expect(machine.handle(.takeOver) == [.discard(after: Epoch(7)), .resume(from: Epoch(7))])
    }
}
