import Model
import Protocol
import Testing

@Suite struct EpochLedgerTests {
    private typealias Ledger = EpochLedger<String>
    private static let millisecond: UInt64 = 1_000_000

    private func timings(bytes: UInt64, resumedAt: UInt64 = 0) -> EpochTimings {
        var timings = EpochTimings()
        timings.linkBytes = bytes
        timings.resumedAt = resumedAt
        return timings
    }

    /// One epoch after the other, each `bytes` large and acknowledged after `transfer` milliseconds.
    private func ledger(_ epochs: [(bytes: UInt64, transfer: UInt64)]) -> Ledger {
        var ledger = Ledger()
        for (index, epoch) in epochs.enumerated() {
            let number = Epoch(UInt64(index) + 1)
            ledger.sent(number, digest: "d", timings: timings(bytes: epoch.bytes), waited: 0, at: 0)
            let found = ledger.acknowledged(number, digest: "d", at: epoch.transfer * Self.millisecond)
            #expect(found != nil)
        }
        return ledger
    }

    @Test func anAcknowledgementCompletesTheTimingsOfItsEpoch() {
        var ledger = Ledger()
        ledger.sent(Epoch(1), digest: "d", timings: timings(bytes: 100, resumedAt: 10), waited: 0, at: 30)
        let found = ledger.acknowledged(Epoch(1), digest: "d", at: 70)
        #expect(found?.transfer == 40)
        #expect(found?.acknowledge == 60)
        let transits = [ledger.takeTransits(), ledger.takeTransits()]
        #expect(transits == [[60], []])
    }

    @Test(arguments: [(Epoch(1), "other"), (Epoch(2), "second"), (Epoch(3), "d")])
    func whatIsNotTheOldestOrNotAsItWasSentCompletesNothing(epoch: Epoch, digest: String) {
        var ledger = Ledger()
        ledger.sent(Epoch(1), digest: "d", timings: timings(bytes: 1), waited: 0, at: 0)
        ledger.sent(Epoch(2), digest: "second", timings: timings(bytes: 1), waited: 0, at: 0)
        let wrong = ledger.acknowledged(epoch, digest: digest, at: 5)
        #expect(wrong == nil)
        // What is waited for is as before, and is acknowledged once.
        let right = ["d", "second", "second"].enumerated().map { index, digest in
            ledger.acknowledged(Epoch(UInt64(min(index + 1, 2))), digest: digest, at: 5) != nil
        }
        #expect(right == [true, true, false])
    }

    @Test func theRateIsThatOfTheTimeBeyondTheWay() {
        // The way takes 10 ms, and 1 MB another 100 ms.
        let ledger = ledger([(1000, 10), (1_000_000, 110)])
        #expect(ledger.roundTrip == 10 * Self.millisecond)
        #expect(abs(ledger.linkBytesPerSecond - 10_000_000) < 1)
    }

    @Test(arguments: [(bytes: Ledger.littleBytes, transfer: UInt64(100)), (bytes: 1_000_000, transfer: 12)])
    func smallEpochsAndFastOnesTellNoRate(epoch: (bytes: UInt64, transfer: UInt64)) {
        #expect(ledger([(1000, 10), epoch]).linkBytesPerSecond == 0)
    }

    @Test func anOldRateFadesAndABetterOneCounts() {
        let slower = ledger([(1000, 10), (1_000_000, 110), (500_000, 110)])
        #expect(abs(slower.linkBytesPerSecond - 8_750_000) < 1)
        let faster = ledger([(1000, 10), (1_000_000, 110), (2_000_000, 110)])
        #expect(abs(faster.linkBytesPerSecond - 20_000_000) < 1)
    }

    @Test func framesThatWaitedForTheLinkAreOfALinkThatIsSlower() {
        var ledger = ledger([(1000, 10)])
        ledger.sent(
            Epoch(2), digest: "d", timings: timings(bytes: 1_000_000), waited: 100 * Self.millisecond, at: 0)
        _ = ledger.acknowledged(Epoch(2), digest: "d", at: 110 * Self.millisecond)
        #expect(abs(ledger.linkBytesPerSecond - 5_000_000) < 1)
    }

    @Test func asManyMayBeOnTheWayAsItTakes() {
        var ledger = ledger([(1000, 100)])
        #expect(ledger.inFlightMax == EpochDepth.least)
        ledger.sealed(after: 10 * Self.millisecond)
        #expect(ledger.inFlightMax == 12)
    }
}
