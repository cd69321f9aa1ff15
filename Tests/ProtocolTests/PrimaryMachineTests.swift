import Model
import Protocol
import Testing

@Suite struct PrimaryMachineTests {
    private func protecting(sealed: UInt64, acknowledged: UInt64, policy: PrimaryMachine.LonelyPolicy = .runAlone)
        -> PrimaryMachine
    {
        var machine = PrimaryMachine(policy: policy)
        for epoch in 1...sealed { _ = machine.handle(.sealed(Epoch(epoch))) }
        if acknowledged > 0 {
            for epoch in 1...acknowledged { _ = machine.handle(.acknowledged(Epoch(epoch), digestMatches: true)) }
        }
        return machine
    }

    @Test func firstCheckpointStartsHolding() {
        var machine = PrimaryMachine(policy: .runAlone)
        #expect(machine.handle(.sealed(Epoch(1))) == [.hold])
        #expect(machine.state == .protecting(sealed: Epoch(1), acknowledged: .firstCopy))
    }

    @Test func outputLeavesOnlyWithItsAcknowledgement() {
        var machine = protecting(sealed: 3, acknowledged: 0)
        #expect(machine.handle(.sealed(Epoch(4))) == [])
        #expect(machine.handle(.acknowledged(Epoch(1), digestMatches: true)) == [.release(through: Epoch(1))])
        #expect(machine.handle(.acknowledged(Epoch(2), digestMatches: true)) == [.release(through: Epoch(2))])
        #expect(machine.acknowledged == Epoch(2))
    }

    @Test(arguments: [
        PrimaryMachine.Event.acknowledged(Epoch(2), digestMatches: false),
        .acknowledged(Epoch(3), digestMatches: true), .acknowledged(Epoch(9), digestMatches: true),
        .acknowledged(Epoch(1), digestMatches: true),
    ])
    func aWrongAcknowledgementReleasesNothingWhenFrozen(event: PrimaryMachine.Event) {
        var machine = protecting(sealed: 3, acknowledged: 1, policy: .freeze)
        let actions = machine.handle(event)
        #expect(actions.count == 1)
        guard case .reportProtocolError = actions.first else {
            Issue.record("expected a protocol error, got \(actions)")
            return
        }
        #expect(machine.state == .frozen(sealed: Epoch(3), acknowledged: Epoch(1)))
        #expect(machine.handle(.acknowledged(Epoch(2), digestMatches: true)) == [])
    }

    @Test func standbyLossFollowsThePolicy() {
        var alone = protecting(sealed: 3, acknowledged: 1)
        #expect(alone.handle(.standbyLost) == [.releaseEverything, .detach])
        var frozen = protecting(sealed: 3, acknowledged: 1, policy: .freeze)
        #expect(frozen.handle(.standbyLost) == [])
        #expect(frozen.handle(.unprotect) == [.dismissStandby, .releaseEverything, .detach])
    }

    @Test func aDeadGuestIsTakenOverAndAnOrderlyShutdownIsNot() {
        var lost = protecting(sealed: 3, acknowledged: 2)
        #expect(lost.handle(.guestLost) == [.askTakeOver, .end])
        #expect(lost.handle(.acknowledged(Epoch(3), digestMatches: true)) == [])
        var ended = protecting(sealed: 3, acknowledged: 2)
        #expect(ended.handle(.guestEnded) == [.dismissStandby, .end])
        var copying = PrimaryMachine(policy: .runAlone)
        #expect(copying.handle(.guestLost) == [.dismissStandby, .end])
    }

    @Test func unprotectDismissesTheStandbyBeforeOutputFlows() {
        var machine = protecting(sealed: 2, acknowledged: 1)
        #expect(machine.handle(.unprotect) == [.dismissStandby, .releaseEverything, .detach])
        #expect(machine.handle(.standbyLost) == [])
    }
}
