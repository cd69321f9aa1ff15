import Memory
import Testing

@Suite struct PrecopyChoiceTests {
    private func isWorthwhile(_ choice: inout PrecopyChoice) -> Bool { choice.isWorthwhile() }

    @Test func copiesBeforeThePauseWhereThatTakesMostOfItAway() {
        var choice = PrecopyChoice()
        #expect(!isWorthwhile(&choice))
        choice.record(precopied: 0, left: 5000)
        for _ in 1...100 {
            #expect(isWorthwhile(&choice))
            choice.record(precopied: 5000, left: 800)
        }
    }

    @Test func fewPagesAreLeftToThePause() {
        var choice = PrecopyChoice()
        choice.record(precopied: 0, left: PrecopyChoice.worthPages - 1)
        #expect(!isWorthwhile(&choice))
        choice.record(precopied: 0, left: PrecopyChoice.worthPages)
        #expect(isWorthwhile(&choice))
    }

    @Test func restsLongerAndLongerWhereTheSamePagesAreWrittenAllTheTime() {
        var choice = PrecopyChoice()
        choice.record(precopied: 0, left: 2000)
        var tries: [Int] = []
        for epoch in 1...2000 {
            if choice.isWorthwhile() {
                tries.append(epoch)
                choice.record(precopied: 2000, left: 1900)
            } else {
                choice.record(precopied: 0, left: 2000)
            }
        }
        let gaps = zip(tries.dropFirst(), tries).map { $0 - $1 }
        #expect(gaps.first == PrecopyChoice.restMin + 1)
        #expect(gaps.last == PrecopyChoice.restMax + 1)
        #expect(gaps == gaps.sorted())
    }

    @Test func triesSoonAgainAfterItPaid() {
        var choice = PrecopyChoice()
        choice.record(precopied: 0, left: 2000)
        for _ in 1...3 {
            while !choice.isWorthwhile() { choice.record(precopied: 0, left: 2000) }
            choice.record(precopied: 2000, left: 1900)
        }
        while !choice.isWorthwhile() { choice.record(precopied: 0, left: 2000) }
        choice.record(precopied: 2000, left: 100)
        #expect(isWorthwhile(&choice))
        choice.record(precopied: 2000, left: 1900)
        for _ in 1...PrecopyChoice.restMin { #expect(!isWorthwhile(&choice)) }
        #expect(isWorthwhile(&choice))
    }
}
