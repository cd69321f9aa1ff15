import Protocol
import Testing

@Suite struct EpochDepthTests {
    private static let millisecond: UInt64 = 1_000_000

    private static func depth(roundTrip: UInt64, cycle: UInt64) -> EpochDepth {
        var depth = EpochDepth()
        depth.acknowledged(after: roundTrip * millisecond)
        for _ in 0..<32 { depth.sealed(after: cycle * millisecond) }
        return depth
    }

    @Test func startsWithTheLeast() {
        #expect(EpochDepth().allowed == EpochDepth.least)
        #expect(EpochDepth().roundTrip == nil)
    }

    @Test(arguments: [(1, 20, 3), (20, 20, 3), (40, 20, 4), (100, 20, 7), (100, 5, 22), (100, 1, 32), (10_000, 1, 32)])
    func asManyAsFitIntoTheWayAndTwoMore(roundTrip: UInt64, cycle: UInt64, allowed: UInt64) {
        #expect(Self.depth(roundTrip: roundTrip, cycle: cycle).allowed == allowed)
    }

    /// A guest that waits for room seals only as often as there is room; that must not count as what it wants.
    @Test func growsUntilTheGuestDoesNotWait() {
        var depth = EpochDepth()
        let (roundTrip, wanted) = (100 * Self.millisecond, 20 * Self.millisecond)
        depth.acknowledged(after: roundTrip)
        for _ in 0..<100 { depth.sealed(after: max(wanted, roundTrip / depth.allowed)) }
        #expect(depth.allowed * wanted >= roundTrip)
    }

    /// What waits in the queue of a full link is acknowledged late; more of them on the way would not help.
    @Test func queueingDoesNotCount() {
        var depth = Self.depth(roundTrip: 2, cycle: 20)
        for _ in 0..<(EpochDepth.window - 2) { depth.acknowledged(after: 5_000 * Self.millisecond) }
        #expect(depth.allowed == EpochDepth.least)
    }

    @Test func aLongerWayIsNoticedWithinTwoWindows() {
        var depth = Self.depth(roundTrip: 1, cycle: 20)
        for _ in 0..<(2 * EpochDepth.window) { depth.acknowledged(after: 100 * Self.millisecond) }
        #expect(depth.roundTrip == 100 * Self.millisecond)
        #expect(depth.allowed == 7)
    }

    @Test func aShorterWayIsNoticedAtOnce() {
        var depth = Self.depth(roundTrip: 100, cycle: 20)
        depth.acknowledged(after: Self.millisecond)
        #expect(depth.roundTrip == Self.millisecond)
    }
}
