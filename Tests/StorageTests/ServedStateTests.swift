import Storage
import Testing

/// Where a request goes of a disk that is served from two copies, and when it is done.
struct ServedStateTests {
    private static let chunk: UInt64 = 64 << 10
    private var state = ServedState(size: 10 * Self.chunk)

    private static func bytes(_ chunks: ClosedRange<UInt64>) -> Range<UInt64> {
        chunks.lowerBound * chunk..<(chunks.upperBound + 1) * chunk
    }

    @Test mutating func aWriteGoesToBothAndIsDoneInBoth() {
        state.pair()
        let places = state.places(ofWrite: 0..<1)
        #expect(places == .init(here: true, there: true))
        #expect(state.readsHere == true && state.mayAnswer(reachedHere: true) && !state.mayAnswer(reachedHere: false))
    }

    @Test mutating func nothingIsDoneInTheOtherCopyAloneBeforeThatIsNoted() {
        state.pair()
        let isNew = state.lose("broken", missing: [], isFlush: false)
        #expect(isNew)
        let places = state.places(ofWrite: 0..<1)
        #expect(places == .init(here: false, there: true))
        #expect(!state.mayAnswer(reachedHere: false) && !state.mayAnswer(reachedHere: true))
        state.note(state.loss + 1)
        #expect(!state.mayAnswer(reachedHere: false))
        state.note(state.loss)
        #expect(state.mayAnswer(reachedHere: false) && state.readsHere == false)
    }

    @Test mutating func aloneACopyThatIsLostAnswersNothing() {
        state.pair()
        _ = state.lose("broken", missing: [], isFlush: false)
        state.note(state.loss)
        state.goAlone()
        #expect(!state.mayAnswer(reachedHere: false) && state.readsHere == nil)
    }

    /// The guest sees what it would see of a disk of its own, and does not wait for ever.
    @Test mutating func aloneACopyThatIsLostFailsUnlessTheOtherOneMayHaveMore() {
        state.pair()
        _ = state.lose("broken", missing: [], isFlush: false)
        #expect(!state.failsAll)
        state.goAlone()
        #expect(state.failsAll)
        state.note(state.loss)
        #expect(!state.failsAll)
        var later = ServedState(size: 10 * Self.chunk)
        later.pair()
        later.goAlone()
        #expect(!later.failsAll)
        _ = later.lose("broken", missing: [], isFlush: false)
        #expect(later.failsAll)
    }

    @Test mutating func whileTheAgentIsAwayNothingNewIsDoneAlone() {
        state.pair()
        state.fallSilent()
        let places = state.places(ofWrite: 0..<1)
        #expect(places.there && state.readsHere == true)
        _ = state.lose("broken", missing: [], isFlush: false)
        #expect(state.readsHere == nil && !state.mayAnswer(reachedHere: false))
    }

    @Test mutating func whatWasNotFlushedIsLostWithTheCopy() {
        state.pair()
        _ = state.places(ofWrite: Self.bytes(0...0))
        state.beginFlush()
        _ = state.places(ofWrite: Self.bytes(1...1))
        state.endFlush()
        _ = state.places(ofWrite: Self.bytes(2...2))
        state.beginFlush()
        _ = state.lose("broken", missing: [Self.bytes(7...7)], isFlush: false)
        #expect(!state.stale.has(anyOf: Self.bytes(0...0)))
        #expect(state.stale.has(anyOf: Self.bytes(1...1)) && state.stale.has(anyOf: Self.bytes(2...2)))
        #expect(state.stale.has(anyOf: Self.bytes(7...7)) && state.stale.count == 3)
    }

    @Test mutating func afterAFlushThatFailedNothingIsTrusted() {
        _ = state.lose("broken", missing: [], isFlush: true)
        #expect(state.stale.count == 10)
    }

    @Test mutating func itRejoinsPartByPart() {
        state.pair()
        _ = state.lose("broken", missing: [Self.bytes(3...4)], isFlush: false)
        state.note(state.loss)
        let (began, isTooEarly) = (state.rejoin(), state.becomeWhole())
        #expect(began && !isTooEarly)
        let (stale, good) = (state.places(ofWrite: Self.bytes(3...3)), state.places(ofWrite: Self.bytes(5...5)))
        #expect(stale == .init(here: false, there: true) && good == .init(here: true, there: true))
        #expect(state.readsHere == false)
        while let chunk = state.stale.next(from: 0) { state.copied(chunk) }
        let isWhole = state.becomeWhole()
        #expect(isWhole && state.isWhole && state.readsHere == true)
        // The next loss is another one, of which nobody knows.
        _ = state.lose("broken again", missing: [], isFlush: false)
        #expect(state.loss == 2 && !state.isNoted && state.stale.has(anyOf: Self.bytes(3...3)))
        state.note(1)
        #expect(!state.isNoted)
    }

    @Test mutating func itDoesNotRejoinWithoutTheOtherCopy() {
        _ = state.lose("broken", missing: [], isFlush: false)
        let first = state.rejoin()
        state.pair()
        state.fallSilent()
        let second = state.rejoin()
        #expect(!first && !second)
    }

    @Test mutating func whatFailsWhileItRejoinsIsTheSameLoss() {
        state.pair()
        _ = state.lose("broken", missing: [Self.bytes(0...0)], isFlush: false)
        state.note(state.loss)
        _ = state.rejoin()
        _ = state.lose("still broken", missing: [], isFlush: false)
        #expect(state.loss == 1 && state.isNoted && state.here == .lost("still broken"))
    }

    @Test func theLastChunkMayBeShort() {
        var chunks = StaleChunks(size: Self.chunk + 5)
        chunks.mark(Self.chunk..<Self.chunk + 1)
        #expect(chunks.next(from: 0) == 1 && chunks.range(of: 1) == Self.chunk..<Self.chunk + 5)
        chunks.markAll()
        #expect(chunks.count == 2)
        chunks.clear(0)
        chunks.clear(1)
        #expect(chunks.isEmpty && chunks.next(from: 0) == nil && chunks.next(from: 99) == nil)
    }
}
