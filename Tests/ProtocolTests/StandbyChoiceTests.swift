import Model
import Protocol
import Testing

struct StandbyChoiceTests {
    private let beta = NodeName(unchecked: "beta")
    private let gamma = NodeName(unchecked: "gamma")
    private let delta = NodeName(unchecked: "delta")

    @Test func theOneThatItHadIsAskedUntilTheTimeIsOver() {
        var choice = StandbyChoice(beta, reserve: [gamma], replaceAfter: 60)
        #expect([100, 110, 159].map { choice.next(at: $0) } == [beta, beta, beta])
        #expect(!choice.isReplacing)
        #expect(choice.next(at: 160) == gamma && choice.isReplacing)
    }

    @Test func thenAllAreAskedInTurn() {
        var choice = StandbyChoice(beta, reserve: [gamma, delta], replaceAfter: 10)
        #expect([0, 10, 12, 14, 16].map { choice.next(at: $0) } == [beta, gamma, delta, beta, gamma])
    }

    /// What took the other's place stays, also when that comes back, and is given the same patience.
    @Test func whoAgreedIsTheOneThatItHas() {
        var choice = StandbyChoice(beta, reserve: [gamma], replaceAfter: 10)
        _ = choice.next(at: 0)
        #expect(choice.next(at: 10) == gamma)
        choice.settle()
        #expect(choice.current == gamma && choice.reserve == [beta])
        #expect([500, 505].map { choice.next(at: $0) } == [gamma, gamma])
        #expect(choice.next(at: 510) == beta)
    }

    @Test func whoIsAskedForTheFirstTimeIsTheFirst() {
        var choice = StandbyChoice(beta, reserve: [gamma], replaceAfter: 0)
        #expect(choice.next(at: 5) == beta, "nobody is replaced before it was asked")
        #expect(choice.next(at: 5) == gamma)
    }

    @Test func oneAloneIsAskedForEver() {
        var choice = StandbyChoice(beta, reserve: [beta], replaceAfter: 0)
        #expect(choice.nodes == [beta] && choice.reserve.isEmpty)
        #expect((0..<5).map { choice.next(at: $0) } == [beta, beta, beta, beta, beta])
        #expect(!choice.isReplacing)
    }
}
