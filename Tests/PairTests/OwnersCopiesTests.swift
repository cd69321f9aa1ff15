import Model
import Pair
import Testing

/// What a standby writes down of its primary's disks (I40).
@Suite struct OwnersCopiesTests {
    private static let history = Lineage(9)
    private static let another = Lineage(10)

    @Test func whatIsLostIsKeptUntilItIsWholeAgain() {
        var owners = OwnersCopies()
        owners.note(1, isLost: true, in: Self.history)
        owners.note(0, isLost: true, in: Self.history)
        #expect(owners.lacking == [0, 1])
        owners.note(1, isLost: false, in: Self.history)
        #expect(owners.lacking == [0])
        owners.note(0, isLost: false, in: Self.history)
        #expect(owners == OwnersCopies())
    }

    @Test func onlyAnotherHistoryIsKeptFromOverwriting() {
        var owners = OwnersCopies()
        #expect(!owners.forbids(offerIn: Self.another))
        owners.note(0, isLost: true, in: Self.history)
        #expect(owners.forbids(offerIn: Self.another) && !owners.forbids(offerIn: Self.history))
        // Of what an older agent wrote the history is not known.
        #expect(OwnersCopies(lacking: [0]).forbids(offerIn: Self.history))
    }

    @Test func whoOwnsAnotherHistoryKeepsNothingOfTheOldOne() {
        var owners = OwnersCopies(lacking: [0], in: Self.history)
        owners.own(Self.history)
        #expect(owners.lacking == [0])
        owners.own(Self.another)
        #expect(owners.lacking == nil)
        owners = OwnersCopies(lacking: [0], in: Self.history)
        owners.note(2, isLost: true, in: Self.another)
        #expect(owners.lacking == [2])
    }
}
