import LinuxSystem
import Shipping
import Testing

@Suite struct AnswersTests {
    @Test func onlyWhatWasAskedIsTakenInAndOnlyOnce() {
        let answers = Answers<Int, String>()
        #expect(!answers.deliver("early", to: 1))
        answers.expect(1)
        #expect(answers.take(1) == nil)
        #expect(answers.deliver("one", to: 1))
        #expect(!answers.deliver("twice", to: 1))
        #expect(answers.take(1) == "one")
        #expect(answers.take(1) == nil)
    }

    @Test func whoeverWaitsIsWokenByTheAnswer() throws {
        let answers = Answers<Int, String>()
        answers.expect(7)
        let thread = try NamedThread.start("answer") { _ = answers.deliver("seven", to: 7) }
        guard case .answered("seven") = answers.wait(for: 7, nanoseconds: .max) else {
            Issue.record("no answer")
            return
        }
        thread.join()
    }

    @Test func anAnswerThatIsThereCountsAfterTheEnd() {
        let answers = Answers<Int, String>()
        answers.expect(1)
        _ = answers.deliver("one", to: 1)
        answers.close("the link is down")
        answers.close("another reason")
        guard case .answered("one") = answers.wait(for: 1, nanoseconds: 0) else {
            Issue.record("the answer is lost")
            return
        }
        guard case .closed("the link is down") = answers.wait(for: 2, nanoseconds: .max) else {
            Issue.record("waits for what cannot come")
            return
        }
    }

    @Test func aWaitEnds() {
        let answers = Answers<Int, String>()
        answers.expect(1)
        guard case .timedOut = answers.wait(for: 1, nanoseconds: 1_000_000) else {
            Issue.record("an answer out of nothing")
            return
        }
    }
}
