import LinuxSystem
import Memory
import Model
import Testing

@Suite struct VerificationPlanTests {
    private static func block(_ index: UInt16, pages: Int, tracked: Bool = true) -> RAMBlock {
        RAMBlock(
            index: index, name: "block\(index)", length: UInt64(pages * pageSize), inSharedFile: false, tracked: tracked
        )
    }

    /// A digest that stands for the contents `seed`.
    private static func digest(_ seed: UInt8) -> [UInt8] { [UInt8](repeating: seed, count: PageDigest.size) }

    private static func written(_ runs: [TrackedRun]) -> WrittenPages {
        var written = WrittenPages()
        runs.withUnsafeBufferPointer { written.insert($0) }
        written.sort()
        return written
    }

    private static func batch(
        _ runs: [PageRun], ours: [UInt8], theirs: [UInt8]?, empty: [Int] = [], written: [TrackedRun] = [],
        epoch: UInt64 = 1
    ) -> VerifiedBatch {
        VerifiedBatch(
            runs: runs, ours: ours.flatMap(digest), theirs: theirs.map { $0.flatMap(digest) }, empty: empty,
            written: self.written(written), epoch: Epoch(epoch))
    }

    @Test func everyPageComesOnce() {
        var plan = VerificationPlan([
            Self.block(0, pages: 10), Self.block(1, pages: 4, tracked: false), Self.block(2, pages: 3),
        ])
        #expect(plan.verdict.pages == 13 && plan.verdict.leftOut == 4)
        var runs: [PageRun] = []
        while let run = plan.next(4) { runs.append(run) }
        #expect(
            runs == [
                PageRun(block: 0, first: 0, count: 4), PageRun(block: 0, first: 4, count: 4),
                PageRun(block: 0, first: 8, count: 2), PageRun(block: 2, first: 0, count: 3),
            ])
        plan.putBack(runs[3])
        let halves = [plan.next(2), plan.next(2)]
        #expect(halves == [PageRun(block: 2, first: 0, count: 2), PageRun(block: 2, first: 2, count: 1)])
        let isAgain = plan.beginRound()
        #expect(!isAgain)
    }

    @Test func aPageIsJudgedByItsDigestItsMemoryAndWhatWasWritten() throws {
        var plan = VerificationPlan([Self.block(0, pages: 6)])
        let next = plan.next(6)
        let run = try #require(next)
        // Equal, written, discarded, differing, empty and equal, written and different.
        let different = plan.take(
            Self.batch(
                [run], ours: [1, 2, 0, 4, 0, 6], theirs: [1, 9, 8, 5, 0, 7], empty: [2, 4],
                written: [TrackedRun(block: 0, first: 1, count: 1), TrackedRun(block: 0, first: 5, count: 1)], epoch: 7)
        )
        #expect(different == plan.verdict.differences && different.map(\.number) == [3])
        #expect(plan.verdict.equal == 2 && plan.verdict.discarded == 1 && plan.verdict.differing == 1)
        #expect(plan.verdict.compared == 3 && plan.verdict.hot == 0)

        // What differed and what was written comes again.
        let isAgain = plan.beginRound()
        #expect(isAgain)
        var again: [PageRun] = []
        while let run = plan.next(10) { again.append(run) }
        #expect(
            again == [
                PageRun(block: 0, first: 1, count: 1), PageRun(block: 0, first: 3, count: 1),
                PageRun(block: 0, first: 5, count: 1),
            ])
        let rest = plan.take(Self.batch(again, ours: [2, 4, 6], theirs: [2, 4, 6], epoch: 9))
        #expect(rest.isEmpty)
        let isOver = !plan.beginRound()
        let verdict = plan.verdict
        #expect(isOver && verdict.equal == 4 && verdict.mended == 1 && verdict.differing == 1)
        #expect(verdict.equal + verdict.differing + verdict.discarded + verdict.hot == verdict.pages)
        #expect(verdict.epochs == 2 && verdict.firstEpoch == Epoch(7) && verdict.lastEpoch == Epoch(9))
    }

    @Test func aPageThatDiffersForEverIsCountedOnceAndIsNotHot() throws {
        var plan = VerificationPlan([Self.block(0, pages: 1)])
        var rounds = 0
        repeat {
            let next = plan.next(8)
            let run = try #require(next)
            let different = plan.take(Self.batch([run], ours: [1], theirs: [2], epoch: UInt64(rounds + 1)))
            #expect(different.count == 1)
            rounds += 1
        } while plan.beginRound()
        #expect(rounds == VerificationPlan.roundsMax)
        #expect(plan.verdict.differing == 1 && plan.verdict.mended == 0 && plan.verdict.hot == 0)
    }

    @Test func aPageThatIsAlwaysWrittenIsHotInTheEnd() throws {
        var plan = VerificationPlan([Self.block(0, pages: 3)])
        var rounds = 0
        repeat {
            let next = plan.next(8)
            let run = try #require(next)
            _ = plan.take(
                Self.batch(
                    [run], ours: [UInt8](repeating: 1, count: Int(run.count)),
                    theirs: [UInt8](repeating: 1, count: Int(run.count)),
                    written: [TrackedRun(block: 0, first: 1, count: 1)]))
            rounds += 1
        } while plan.beginRound()
        #expect(rounds == VerificationPlan.roundsMax && plan.verdict.hot == 1 && plan.verdict.equal == 2)
    }

    /// The standby was at another epoch: nothing is known.
    @Test func withoutAnAnswerPagesComeAgain() throws {
        var plan = VerificationPlan([Self.block(0, pages: 5)])
        let next = plan.next(8)
        let run = try #require(next)
        let different = plan.take(Self.batch([run], ours: [1, 2, 3, 4, 5], theirs: nil))
        #expect(different.isEmpty && plan.verdict.compared == 0 && plan.verdict.epochs == 0)
        let isAgain = plan.beginRound()
        let after = plan.next(8)
        #expect(isAgain && after == run)
    }

    @Test func writtenPagesAreFoundWhateverTheirOrder() {
        let runs = [
            TrackedRun(block: 1, first: 5, count: 3), TrackedRun(block: 0, first: 100, count: 1),
            TrackedRun(block: 1, first: 0, count: 2), TrackedRun(block: 1, first: 6, count: 10),
            TrackedRun(block: 1, first: 7, count: 1), TrackedRun(block: 0, first: 99, count: 1),
        ]
        let written = Self.written(runs)
        for block: UInt16 in 0...2 {
            for page: UInt32 in 0..<120 {
                let expected = runs.contains { $0.block == block && page >= $0.first && page < $0.first + $0.count }
                #expect(written.contains(block: block, page: page) == expected, "\(page) of block \(block)")
            }
        }
        #expect(!WrittenPages().contains(block: 0, page: 0))
    }

    @Test func pastItsBoundEveryPageCountsAsWritten() {
        var written = WrittenPages()
        let runs = (0..<40_000).map { TrackedRun(block: 0, first: UInt32($0 * 2), count: 1) }
        runs.withUnsafeBufferPointer { written.insert($0) }
        written.sort()
        #expect(!written.contains(block: 0, page: 1) && written.contains(block: 0, page: 2))
        runs.withUnsafeBufferPointer { written.insert($0) }
        written.sort()
        #expect(written.contains(block: 0, page: 1) && written.contains(block: 5, page: 7))
        written.removeAll()
        #expect(!written.contains(block: 0, page: 2))
    }
}
