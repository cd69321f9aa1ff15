import Model
import Protocol
import Testing

/// The timer in a loop with a guest that is computed: no clock, no luck.
@Suite struct EpochGoalTests {
    /// What the guest does, and what its checkpoints cost because of it. Times in nanoseconds.
    private struct Load {
        var pagesPerMillisecond = 15.0
        /// What an epoch cannot write more of.
        var pagesMax = 50_000.0
        /// Of one processor.
        var share = 1.0
        /// How long after an answer the next one is ready; nil: it never sends anything.
        var thinking: UInt64?
        /// Pauses vary by up to this factor, up and down.
        var noise = 0.0

        func pages(in epoch: UInt64) -> UInt64 { UInt64(min(Double(epoch) / 1e6 * pagesPerMillisecond, pagesMax)) }
    }

    private struct Course {
        var answers: [UInt64] = []
        var lengths: [UInt64] = []
        var lost = 0.0
        var time: UInt64 = 0

        var lostShare: Double { lost / Double(time) * 100 }
        /// In milliseconds.
        func answer(_ quantile: Double) -> Double {
            Double(answers.sorted()[Int(Double(answers.count - 1) * quantile)]) / 1e6
        }
        /// The longest and the shortest of the lengths.
        var spread: Double { Double(lengths.max() ?? 0) / Double(max(lengths.min() ?? 0, 1)) }
    }

    private struct Guest {
        var timer: EpochTimer
        var now: UInt64 = 1_000_000_000

        init(_ goal: EpochGoal?, epoch: UInt64 = 20, endsOnOutput: Bool = true) {
            timer = EpochTimer(
                .init(
                    epoch: epoch * 1_000_000, idleEpoch: 1_000_000_000, endsOnOutput: endsOnOutput, pauseBudget: 25,
                    goal: goal))
            timer.resumed(at: now, pause: 2_000_000, used: nil, dirtyPages: 300)
        }

        var obstacle: EpochTimer.Obstacle? { timer.standing?.obstacle }

        /// Lets epochs pass, the last `seen` of which are told.
        mutating func live(_ load: Load, epochs: Int, seen: Int = 200) -> Course {
            var course = Course()
            var nextOutput = load.thinking.map { now + $0 }
            var random: UInt64 = 7
            for number in 0..<epochs {
                let began = now
                let held = nextOutput.map { max($0, began) }
                // As the session's loop does it: a look when the guest has worked for so much, and when output is held.
                let busy = timer.idleWork.map { began + UInt64(Double($0) / max(load.share, 1e-9)) + 1 } ?? .max
                var look = began
                while true {
                    let isHeld = held.map { $0 <= look } ?? false
                    let due = timer.due(
                        firstHeld: isHeld ? held : nil, used: { UInt64(Double(look - began) * load.share) })
                    if look >= due { break }
                    look = min(due, look < busy ? busy : .max, isHeld ? .max : held ?? .max)
                }
                let ran = look - began
                let pages = load.pages(in: ran)
                random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let luck = 1 + load.noise * (Double(random >> 40) / Double(1 << 24) * 2 - 1)
                let pause = UInt64((900_000 + Double(pages) * 1000) * luck)
                let transit = 400_000 + pages * 500
                now = look + pause
                timer.resumed(
                    at: now, pause: pause, used: UInt64(Double(ran) * load.share), dirtyPages: pages)
                timer.acknowledged(after: transit)
                let isAnswered = held.map { $0 <= look } ?? false
                if number >= epochs - seen {
                    course.lengths.append(ran)
                    course.lost += Double(pause) * load.share + Double(pages) * 1000
                    course.time += ran + pause
                    if isAnswered, let held { course.answers.append(now + transit - held) }
                }
                if isAnswered, let thinking = load.thinking { nextOutput = now + transit + thinking }
            }
            return course
        }
    }

    @Test func answersComeWithinTheirTargetAndNotMuchSooner() {
        for limit in [5.0, 10] {
            var guest = Guest(.latency(milliseconds: limit))
            let course = guest.live(Load(thinking: 100_000), epochs: 600)
            #expect(course.answer(0.95) <= limit && course.answer(0.5) > limit * 0.6, "of \(limit) ms")
            #expect(guest.obstacle == nil)
            #expect(guest.timer.standing.map { $0.reached <= limit && $0.reached > limit * 0.6 } == true)
        }
    }

    @Test func epochsWithoutOutputAreShortenedForTheNextAnswer() {
        // 200 pages a millisecond: after 20 ms a checkpoint would take 7 ms.
        var guest = Guest(.latency(milliseconds: 5))
        let course = guest.live(Load(pagesPerMillisecond: 200), epochs: 600)
        #expect(course.lengths.allSatisfy { $0 < 12_000_000 && $0 > 5_000_000 })
        #expect(course.spread < 1.01, "it has come to rest")
        #expect(guest.obstacle == nil)
        // The load goes away: epochs become as long as they may be.
        _ = guest.live(Load(), epochs: 200)
        #expect(guest.live(Load(), epochs: 1).lengths == [20_000_000])
    }

    @Test func lengthsDoNotFlutterWithThePauses() {
        var guest = Guest(.latency(milliseconds: 5))
        let course = guest.live(Load(pagesPerMillisecond: 200, noise: 0.3), epochs: 2000)
        #expect(course.spread < 1.5)
        var other = Guest(.overhead(percent: 5))
        #expect(other.live(Load(noise: 0.3), epochs: 2000).spread < 1.6)
    }

    @Test func aTargetThatNoCheckpointCanMeetIsSaidToBeMissed() {
        var guest = Guest(.latency(milliseconds: 1))
        _ = guest.live(Load(thinking: 100_000), epochs: 600)
        guard case .answer(_, let pause, let transit)? = guest.obstacle else {
            Issue.record("it is told as held: \(String(describing: guest.timer.standing))")
            return
        }
        #expect(pause + transit > 1_000_000)
    }

    @Test func checkpointsCostNoMoreThanTheTargetOfOverhead() {
        for percent in [2.0, 5, 10] {
            for thinking: UInt64? in [nil, 100_000] {
                var guest = Guest(.overhead(percent: percent))
                let course = guest.live(Load(pagesPerMillisecond: 5, thinking: thinking), epochs: 1000)
                #expect(course.lostShare <= percent * 1.05, "of \(percent) %")
                #expect(guest.obstacle == nil)
                #expect(thinking == nil || course.lostShare > percent * 0.5, "answers are no later than that needs")
            }
        }
    }

    @Test func anIdleGuestLosesNothingSoItsAnswersAreSoon() {
        var guest = Guest(.overhead(percent: 5))
        let course = guest.live(Load(pagesPerMillisecond: 1, share: 0.03, thinking: 100_000), epochs: 600)
        #expect(course.answer(0.95) < 3)
    }

    @Test func epochsGrowToTheirBoundAndNoFurther() {
        // Tracking alone costs 3 % of a guest that writes 30 pages a millisecond, whatever the epochs' length.
        var guest = Guest(.overhead(percent: 2))
        let course = guest.live(Load(pagesPerMillisecond: 30, pagesMax: 1e6), epochs: 600)
        #expect(course.lengths.allSatisfy { $0 == 1_000_000_000 })
        guard case .work(_, let tracking, let longest)? = guest.obstacle else {
            Issue.record("it is told as held: \(String(describing: guest.timer.standing))")
            return
        }
        #expect(longest == 1_000_000_000 && tracking > 20_000_000)
    }

    @Test func fixedEpochsAreFittedToo() {
        var guest = Guest(.latency(milliseconds: 10), endsOnOutput: false)
        let course = guest.live(Load(thinking: 100_000), epochs: 600)
        #expect(course.answer(0.95) <= 10 && course.answer(0.5) > 6)
    }

    @Test func otherSettingsTakeEffectAtOnceAndNothingIsForgotten() {
        var guest = Guest(nil)
        _ = guest.live(Load(thinking: 100_000), epochs: 100)
        #expect(guest.timer.standing == nil)
        var settings = guest.timer.settings
        settings.goal = .latency(milliseconds: 5)
        settings.epoch = 10_000_000
        guest.timer.change(settings)
        #expect(guest.timer.standing.map { $0.reached > 1 && $0.obstacle == nil } == true)
        let began = 1_000_000_000_000 as UInt64
        guest.timer.resumed(at: began, pause: 1_000_000, used: nil, dirtyPages: 100)
        #expect(guest.timer.due(firstHeld: nil, used: { 0 }) == began + 10_000_000)
    }
}
