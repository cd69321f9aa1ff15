import KernelGate
import Leases
import LinuxSystem
import Literals
import Model
import Protocol
import TestBed
import Testing

/// What keeps a lease alive, and what follows from it.
@Suite(.timeLimit(.minutes(1))) struct LeaseTests {
    @Test func theAnswerCountsFromBeforeTheQuestion() async throws {
        // One question within this test.
        let timing = LeaseTiming(length: 600_000 * millisecond, interval: 300_000 * millisecond, margin: 0, drift: 0)
        let scene = try LeaseScene(timing)
        scene.arbiter.be(.waits)
        scene.goOn()
        scene.leases.guardOutput(of: web, before: [try GatedLink("tap1")])
        try await scene.waitUntil("the question") { scene.arbiter.asked.count == 1 }
        let asked = scene.arbiter.asked[0]
        try await Task.sleep(for: .milliseconds(20))
        scene.arbiter.be(.answers)
        try await scene.waitUntil("the gate's opening") { scene.told.words.contains(.guarded) }
        #expect(scene.barrier.calls == [.install, .open])
        let deadline = try #require(scene.barrier.entries.last?.deadline)
        #expect(deadline <= asked + timing.length)
    }

    @Test func eachAnswerRenewsTheLease() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        try await scene.waitUntil("several renewals") { scene.barrier.calls.count > 10 }
        #expect(scene.barrier.calls.prefix(2) == [.install, .open])
        #expect(Set(scene.barrier.calls.dropFirst(2)) == [.renew])
        let deadlines = scene.barrier.entries.compactMap(\.deadline)
        #expect(deadlines == deadlines.sorted() && Set(deadlines).count == deadlines.count)
        let last = try #require(scene.arbiter.asked.last)
        #expect(deadlines.allSatisfy { $0 <= last + LeaseTiming.patient.length })
    }

    @Test func thePromiseOfTheStandbyWillDo() async throws {
        let scene = try LeaseScene()
        scene.arbiter.be(.isAway)
        var attendant = scene.told.attendant
        let (told, leases) = (scene.told, scene.leases)
        attendant.askStandby = { [weak leases] question, term in
            told.add(.askStandby(question, term))
            leases?.handle(.confirmed(question: question, term), of: web)
        }
        leases.attend(web, attendant)
        try await scene.guardWeb()
        try await scene.waitUntil("renewals") { scene.barrier.calls.count > 5 }
        #expect(scene.barrier.isOpen(web))
        #expect(scene.told.news == [.guarded])
    }

    @Test func silenceShutsTheGateAndAnAnswerOpensIt() async throws {
        let scene = try LeaseScene(.brief)
        try await scene.guardWeb()
        scene.arbiter.be(.isAway)
        try await scene.waitUntil("the end of the lease") {
            scene.told.reports(with: "its gate is shut") > 0 && !scene.barrier.isOpen(web)
        }
        scene.arbiter.be(.answers)
        try await scene.waitUntil("the gate's opening") { scene.barrier.isOpen(web) }
        #expect(!scene.told.words.contains { if case .unguardable = $0 { true } else { false } })
    }

    @Test func anotherOwnerShutsTheGate() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        scene.arbiter.appoint("beta", at: Term(5))
        try await scene.waitUntil("the denial") { scene.told.reports(with: "another owner at term 5") == 1 }
        try await scene.settle()
        #expect(!scene.barrier.isOpen(web))
        #expect(scene.barrier.calls.last == .close)
        #expect(scene.barrier.guests[web] != nil, "shut, it stays there")
    }

    @Test func theEndShutsTheGate() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        scene.leases.handle(.ended, of: web)
        try await scene.waitUntil("the gate's shutting") { scene.barrier.calls.last == .close }
        let questions = scene.told.questions
        try await Task.sleep(for: .milliseconds(20))
        try await scene.settle()
        #expect(scene.told.questions == questions, "nobody is asked any more")
    }

    @Test func nothingIsPromisedOnceItAskedToTakeOver() async throws {
        let scene = try LeaseScene()
        scene.leases.handle(.standsBy(Term(5)), of: web)
        scene.leases.handle(.promiseAsked(question: 1, Term(5)), of: web)
        scene.leases.handle(.promiseAsked(question: 2, Term(4)), of: web)
        scene.leases.handle(.asksToTakeOver(Term(5)), of: web)
        scene.leases.handle(.promiseAsked(question: 3, Term(5)), of: web)
        try await scene.settle()
        #expect(scene.told.words == [.promise(1, Term(5))])
    }

    @Test func whoTakesOverWaitsAndNeedsNoGate() async throws {
        let scene = try LeaseScene(.brief)
        scene.arbiter.appoint("alpha", at: Term(6))
        let began = BootClock.now()
        scene.leases.handle(.won(Term(6), .toStart), of: web)
        try await scene.waitUntil("the guest's start") { scene.told.words.contains(.mayRun) }
        #expect(BootClock.now() - began >= LeaseTiming.brief.wait)
        #expect(scene.maker.made == 0)
        #expect(scene.told.questions > 1)
    }

    @Test func aConfirmedFencingEndsTheWait() async throws {
        let scene = try LeaseScene()
        scene.arbiter.appoint("alpha", at: Term(6))
        scene.leases.handle(.won(Term(6), .toStart), of: web)
        try await scene.waitUntil("several questions") { scene.arbiter.asked.count > 3 }
        #expect(scene.told.news == [])
        scene.leases.handle(.peerFenced, of: web)
        try await scene.waitUntil("the guest's start") { scene.told.news == [.mayRun] }
    }

    /// One that hears of nothing must not be asked more and more at once.
    @Test func aDeafArbiterIsNotPiledUpOn() async throws {
        let scene = try LeaseScene()
        scene.arbiter.be(.isDeaf)
        scene.goOn()
        try await scene.waitUntil("many questions") { scene.told.questions > 60 && scene.arbiter.underWayMost > 15 }
        #expect(scene.arbiter.underWayMost == 16)
        scene.arbiter.be(.answers)
        let asked = scene.arbiter.asked.count
        try await scene.waitUntil("more questions") { scene.arbiter.asked.count > asked + 3 }
    }

    @Test func whatIsAskedForTooLongIsGivenUp() async throws {
        let scene = try LeaseScene(.brief)
        scene.arbiter.be(.waits)
        scene.goOn()
        // More than may be under way at once.
        try await scene.waitUntil("many questions") { scene.arbiter.asked.count > 50 }
    }

    @Test func eachVMHasItsOwn() async throws {
        let scene = try LeaseScene()
        let other = Told()
        try await scene.guardBoth(other)
        scene.leases.handle(.ended, of: web)
        try await scene.waitUntil("the one gate's shutting") { !scene.barrier.isOpen(web) }
        #expect(scene.barrier.isOpen(db))
        #expect(scene.told.news == [.guarded] && other.news == [.guarded])
    }

    private struct Left {
        weak var told: Told?
    }

    @Test func theThreadEndsWithTheLeases() async throws {
        var scene: LeaseScene? = try LeaseScene()
        try await scene?.guardWeb()
        let left = Left(told: scene?.told)
        scene = nil
        try await eventually("the end of what the thread had", within: .seconds(20)) { left.told == nil ? true : nil }
    }
}
