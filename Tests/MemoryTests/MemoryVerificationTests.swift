import LinuxSystem
import Memory
import Model
import Testing
import Wire

@Suite struct MemoryVerificationTests {
    private let session = SessionID(7)
    private let run = PageRun(block: 0, first: 10, count: 2)

    private func note(_ verification: MemoryVerification, _ first: UInt32) {
        [TrackedRun(block: 0, first: first, count: 1)].withUnsafeBufferPointer { verification.note($0) }
    }

    private func digests(_ pages: Int) -> [UInt8] { [UInt8](repeating: 1, count: pages * PageDigest.size) }

    private func isWritten(_ answer: MemoryVerification.Answer, _ page: UInt32) -> Bool {
        var written = answer.written
        written.sort()
        return written.contains(block: 0, page: page)
    }

    @Test func whatIsReadWhenASealBeginsIsAskedAboutAtItsEpoch() throws {
        let verification = try MemoryVerification()
        #expect(verification.begin(session))
        note(verification, 1)
        verification.open()
        note(verification, 2)
        #expect(verification.add(run))
        #expect(verification.question(at: Epoch(4), in: session) == nil, "no seal began since the pages were read")
        note(verification, 3)
        verification.sealBegins()
        #expect(!verification.add(PageRun(block: 0, first: 50, count: 1)), "what is read later is not of this epoch")
        note(verification, 4)
        let question = verification.question(at: Epoch(5), in: session)
        #expect(question == VerifyQuestion(session: session, runs: [run]))
        note(verification, 5)
        #expect(verification.question(at: Epoch(6), in: session) == nil, "it is asked once")
        #expect(verification.awaitAnswer(0) == nil)
        verification.replied(session, Epoch(5), digests(2))
        let answer = try #require(verification.awaitAnswer(1_000_000_000))
        #expect(answer.epoch == Epoch(5) && answer.digests == digests(2))
        #expect((1...5).map { isWritten(answer, $0) } == [false, true, true, true, false])
    }

    @Test func aSealBeforeAnythingIsReadTakesNothing() throws {
        let verification = try MemoryVerification()
        #expect(verification.begin(session))
        verification.open()
        verification.sealBegins()
        #expect(verification.add(run))
        #expect(verification.question(at: Epoch(1), in: session) == nil)
        verification.sealBegins()
        #expect(verification.question(at: Epoch(2), in: session) != nil)
    }

    @Test func onlyTheAnswerToTheQuestionCounts() throws {
        let verification = try MemoryVerification()
        #expect(verification.begin(session))
        verification.open()
        #expect(verification.add(run))
        verification.sealBegins()
        #expect(verification.question(at: Epoch(9), in: SessionID(8)) == nil, "another session knows nothing of it")
        #expect(verification.question(at: Epoch(9), in: session) != nil)
        verification.replied(session, Epoch(8), digests(2))
        verification.replied(SessionID(8), Epoch(9), digests(2))
        #expect(verification.awaitAnswer(0) == nil)
        // A replica at another epoch, or an answer about other pages.
        verification.replied(session, Epoch(9), digests(1))
        let answer = try #require(verification.awaitAnswer(1_000_000_000))
        #expect(answer.digests == nil)
    }

    @Test func oneAtATimeAndNothingIsLeftBehind() throws {
        let verification = try MemoryVerification()
        #expect(verification.begin(session))
        #expect(!verification.begin(SessionID(8)))
        verification.open()
        #expect(verification.add(run))
        verification.mend([])
        #expect(!verification.isMending)
        verification.end()
        verification.sealBegins()
        #expect(verification.question(at: Epoch(1), in: session) == nil && !verification.isWaiting)
        #expect(verification.takeMending(10) == nil)
        #expect(verification.begin(SessionID(8)))
    }

    /// A checkpoint is wanted once nothing more is read, and for pages that are to be sent again.
    @Test func itWaitsForACheckpointOnlyWhenItNeedsOne() throws {
        let verification = try MemoryVerification()
        #expect(verification.begin(session) && !verification.isWaiting)
        verification.open()
        #expect(verification.add(run) && !verification.isWaiting)
        verification.close()
        #expect(verification.isWaiting)
        verification.sealBegins()
        #expect(!verification.isWaiting)
        #expect(verification.question(at: Epoch(1), in: session) != nil && !verification.isWaiting)
        var plan = VerificationPlan([
            RAMBlock(index: 0, name: "ram", length: UInt64(3 * pageSize), inSharedFile: false, tracked: true)
        ])
        _ = plan.next(3)
        let pages = plan.take(
            VerifiedBatch(
                runs: [PageRun(block: 0, first: 0, count: 3)], ours: digests(3),
                theirs: [UInt8](repeating: 2, count: 3 * PageDigest.size), empty: [], written: WrittenPages(),
                epoch: Epoch(1)))
        verification.mend(pages)
        #expect(verification.isWaiting && verification.isMending)
        #expect(verification.takeMending(2)?.map(\.first) == [0, 1])
        #expect(verification.takeMending(2)?.map(\.first) == [2])
        #expect(!verification.isWaiting && !verification.isMending && verification.takeMending(2) == nil)
    }
}
