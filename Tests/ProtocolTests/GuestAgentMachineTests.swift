import Protocol
import Testing

/// When the silence of a guest's agent is a hang, in a loop with a guest that is computed.
@Suite struct GuestAgentMachineTests {
    private static let second: UInt64 = 1_000_000_000

    /// An agent of Romulus that looks twice a second, and what it meets.
    private struct Course {
        var machine = GuestAgentMachine(silence: 60 * second, number: 1000)
        var now: UInt64 = 500 * second
        /// What the guest's agent does, and what is seen of the guest.
        var answers = true
        var isRunning = true
        var isPortOpen = true
        var isExcused = false
        var mayAsk = true
        var asked: [UInt64] = []
        var looks = 0
        var renewals = 0
        var firstAnswers = 0
        var verdicts: [GuestAgentMachine.Verdict] = []
        private var open: [UInt64] = []

        init() { machine.opened(at: now) }

        mutating func pass(_ seconds: Int) {
            for _ in 0..<seconds * 2 {
                now += second / 2
                step()
            }
        }

        /// The agent of Romulus itself does not run.
        mutating func sleep(_ seconds: Int) {
            now += UInt64(seconds) * second
            step()
        }

        mutating func reset() {
            machine.started()
            open = []
        }

        private mutating func step() {
            if answers, isRunning, isPortOpen {
                for number in open where machine.answered(number, at: now) { firstAnswers += 1 }
                open = []
            }
            switch machine.look(isExcused: isExcused, mayAsk: mayAsk, at: now) {
            case .ask(let number):
                asked.append(number)
                open.append(number)
            case .renew:
                renewals += 1
                open = []
                machine.opened(at: now)
            case .look:
                looks += 1
                guard let verdict = machine.saw(isRunning: isRunning, isPortOpen: isPortOpen, at: now) else { return }
                verdicts.append(verdict)
                if case .hangs = verdict { open = [] }
            case nil: break
            }
        }
    }

    private func hangs(_ course: Course) -> [UInt64] {
        course.verdicts.compactMap { if case .hangs(let silent) = $0 { silent / Self.second } else { nil } }
    }

    @Test func anAgentThatAnswersIsAskedNowAndThen() {
        var course = Course()
        course.pass(3600)
        #expect(course.asked.count == 720 && Set(course.asked).count == 720)
        #expect(course.firstAnswers == 1 && course.looks == 0 && course.verdicts.isEmpty)
    }

    @Test func anAgentThatFallsSilentIsAHang() {
        var course = Course()
        course.pass(100)
        course.answers = false
        course.pass(54)
        #expect(course.verdicts.isEmpty && course.looks == 1)
        course.pass(8)
        #expect(course.verdicts.count == 1 && (60...66).contains(hangs(course).first ?? 0))
    }

    /// Where one checkpoint follows the other at once.
    @Test func oneThatCannotBeAskedIsNotSilent() {
        var course = Course()
        course.pass(10)
        course.mayAsk = false
        course.pass(300)
        #expect(course.verdicts == [] && course.firstAnswers == 1)
        course.mayAsk = true
        course.pass(10)
        course.answers = false
        course.pass(70)
        #expect(course.verdicts.count == 1)
    }

    @Test func oneThatNeverAnsweredIsNone() {
        var course = Course()
        course.answers = false
        course.pass(7200)
        #expect(course.verdicts.isEmpty && course.looks == 0)
        #expect(course.renewals > 50, "what nobody reads does not pile up")
    }

    @Test func afterAResetItMustAnswerAgain() {
        var course = Course()
        course.pass(100)
        course.answers = false
        course.pass(7200)
        #expect(hangs(course).count == 1)
        course.answers = true
        course.pass(30)
        #expect(course.firstAnswers == 2)
        course.answers = false
        course.pass(70)
        #expect(hangs(course).count == 2)
    }

    /// A guest that hangs soon after each boot is not reset without pause.
    @Test func resetsAreFarBetween() {
        var course = Course()
        course.pass(10)
        for _ in 0..<100 {
            course.answers.toggle()
            course.pass(course.answers ? 10 : 62)
        }
        #expect((2...15).contains(hangs(course).count), "\(hangs(course))")
        var quick = Course()
        quick.pass(10)
        quick.answers = false
        quick.pass(70)
        quick.answers = true
        quick.pass(10)
        quick.answers = false
        quick.pass(150)
        #expect(hangs(quick).count == 1)
        quick.pass(80)
        #expect(hangs(quick).count == 2, "it hangs still")
    }

    @Test func anAgentThatEndsInTheGuestIsNone() {
        var course = Course()
        course.pass(100)
        course.isPortOpen = false
        course.pass(7200)
        #expect(course.verdicts == [.gone])
        // It is told of as well, before that is looked for.
        var told = Course()
        told.pass(100)
        let news = [told.machine.closed(), told.machine.closed()]
        #expect(news == [true, false])
        told.answers = false
        told.pass(7200)
        #expect(told.verdicts.isEmpty)
    }

    @Test func timeInWhichTheGuestStandsDoesNotCount() {
        var course = Course()
        course.pass(100)
        course.isRunning = false
        course.pass(3600)
        let asked = course.asked.count
        course.pass(3600)
        #expect(course.verdicts.isEmpty && course.asked.count == asked, "nothing piles up meanwhile")
        // Somebody lets it run on, and it is not told of.
        course.isRunning = true
        course.answers = false
        course.pass(55)
        #expect(course.verdicts.isEmpty)
        course.pass(60)
        #expect(hangs(course).count == 1)
    }

    @Test func timeInWhichItMayHaveToWaitDoesNotCount() {
        var course = Course()
        course.pass(100)
        (course.isExcused, course.answers) = (true, false)
        course.pass(600)
        course.isExcused = false
        course.pass(58)
        #expect(course.verdicts.isEmpty)
        course.machine.forgive()
        course.pass(58)
        #expect(course.verdicts.isEmpty)
        course.pass(5)
        #expect(hangs(course).count == 1)
    }

    @Test func timeInWhichNobodyAskedDoesNotCount() {
        var course = Course()
        course.pass(100)
        course.answers = false
        course.sleep(4000)
        #expect(course.verdicts.isEmpty)
        course.pass(30)
        #expect(course.verdicts.isEmpty)
        course.pass(60)
        #expect(hangs(course).count == 1)
    }

    @Test func aGuestThatBootsByItselfIsNone() {
        var course = Course()
        course.pass(100)
        course.answers = false
        course.pass(50)
        course.reset()
        course.pass(3600)
        #expect(course.verdicts.isEmpty)
    }

    @Test func onlyWhatWasAskedIsAnAnswer() {
        var machine = GuestAgentMachine(silence: 60 * Self.second, number: 7)
        machine.opened(at: 0)
        guard case .ask(let number) = machine.look(isExcused: false, at: Self.second) else {
            Issue.record("nothing was asked")
            return
        }
        for wrong in [0, 1, number - 1, number + 1, .max] {
            let isFirst = machine.answered(wrong, at: Self.second)
            #expect(!isFirst)
        }
        #expect(!machine.hasAnswered)
        let answers = [machine.answered(number, at: Self.second), machine.answered(number, at: Self.second)]
        #expect(answers == [true, false])
        machine.started()
        #expect(!machine.hasAnswered)
    }

    /// What is told of a guest in any order is no trap, and resets stay far between.
    @Test(arguments: 1...20) func anythingMayHappen(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        var course = Course()
        var resets: [UInt64] = []
        for _ in 0..<3000 {
            switch next(12) {
            case 0: course.answers = next(3) == 0
            case 1: course.isRunning = next(8) != 0
            case 2: course.isPortOpen = next(8) != 0
            case 3: course.isExcused = next(8) == 0
            case 4: course.sleep(Int(next(200)))
            case 5: if next(20) == 0 { course.reset() }
            default: course.pass(Int(next(80)))
            }
            let count = hangs(course).count
            if count > resets.count { resets.append(course.now) }
        }
        for (first, second) in zip(resets, resets.dropFirst()) {
            // When it was, is known to a step's length.
            #expect(second - first + 200 * Self.second >= 60 * Self.second + GuestAgentMachine.rest)
        }
    }
}
