import KernelGate
import Leases
import LinuxSystem
import Literals
import Model
import Protocol
import Testing

/// The gate that a lease keeps open: when it is put there, and what happens when the kernel does not do as it is told.
@Suite(.timeLimit(.minutes(1))) struct GuardTests {
    private let refusal = KernelGateError.refused(SystemError(operation: "change", errno: 12, subject: "the table"))

    @Test func itIsPutThereInTheMomentInWhichItOpens() async throws {
        let scene = try LeaseScene()
        scene.arbiter.be(.isAway)
        scene.goOn()
        scene.leases.guardOutput(of: web, before: [try GatedLink("tap1")])
        try await scene.waitUntil("several questions") { scene.arbiter.asked.count > 3 }
        try await scene.settle()
        #expect(scene.barrier.calls == [] && scene.maker.made == 0)
        scene.arbiter.be(.answers)
        try await scene.waitUntil("the gate's opening") { scene.told.words.contains(.guarded) }
        #expect(scene.barrier.calls.prefix(2) == [.install, .open])
        #expect(scene.barrier.guests == [web: [try GatedLink("tap1")]])
    }

    @Test func underALeaseThatIsInForceItOpensAtOnce() async throws {
        let scene = try LeaseScene()
        scene.arbiter.appoint("alpha", at: Term(4))
        scene.leases.handle(.won(Term(4), .toStart), of: web)
        scene.leases.handle(.peerFenced, of: web)
        try await scene.waitUntil("the lease") { scene.told.words.contains(.mayRun) }
        scene.arbiter.be(.isAway)
        try await scene.settle()
        scene.leases.guardOutput(of: web, before: [try GatedLink("tap1")])
        try await scene.waitUntil("the gate's opening") { scene.told.words.contains(.guarded) }
        let last = try #require(scene.arbiter.asked.last)
        let deadline = try #require(scene.barrier.entries.compactMap(\.deadline).last)
        #expect(deadline <= last + LeaseTiming.patient.length)
    }

    @Test func aGuestWithoutNICsNeedsNone() async throws {
        let scene = try LeaseScene(failure: .notPermitted)
        scene.goOn()
        scene.leases.guardOutput(of: web, before: [])
        try await scene.waitUntil("the lease") { scene.told.news == [.guarded] }
        #expect(scene.leases.obstacle(to: []) == nil)
        #expect(scene.maker.made == 0)
    }

    @Test func whatStandsInTheWayIsSaid() async throws {
        let scene = try LeaseScene(failure: .notPermitted)
        let links = [try GatedLink("tap1")]
        #expect(scene.leases.obstacle(to: links) == "\(KernelGateError.notPermitted)")
        scene.goOn()
        scene.leases.guardOutput(of: web, before: links)
        try await scene.waitUntil("the reason") { scene.told.news == [.unguardable("\(KernelGateError.notPermitted)")] }

        let able = try LeaseScene()
        #expect(able.leases.obstacle(to: links) == nil)
        able.barrier.fail(.check, with: .noDevice("tap1"))
        #expect(able.leases.obstacle(to: links) == "\(KernelGateError.noDevice("tap1"))")
        #expect(able.maker.made == 1)
    }

    @Test(arguments: [TestBarrier.Call.install, .open])
    func aNewGateThatDoesNotOpenIsTakenAway(_ call: TestBarrier.Call) async throws {
        let scene = try LeaseScene()
        scene.barrier.fail(call, with: refusal)
        scene.goOn()
        scene.leases.guardOutput(of: web, before: [try GatedLink("tap1")])
        try await scene.waitUntil("the reason") { scene.told.news == [.unguardable("\(refusal)")] }
        #expect(scene.barrier.guests == [:])
        scene.barrier.fail(call, with: nil)
        try await scene.guardWeb()
    }

    @Test func aGateThatWasLeftIsTakenUp() async throws {
        let links = [try GatedLink("tap1")]
        let scene = try LeaseScene(left: [web: links, db: [try GatedLink("tap2")]])
        scene.leases.sweep(keeping: [web])
        scene.goOn()
        try await scene.waitUntil("the gate's opening") { scene.barrier.isOpen(web) }
        #expect(scene.barrier.guests == [web: links])
        #expect(scene.log.all.count == 1 && scene.log.all.first?.contains("a gate for db") == true)
        scene.barrier.fail(.open, with: refusal)
        scene.leases.guardOutput(of: web, before: links)
        try await scene.waitUntil("the reason") { scene.told.news == [.unguardable("\(refusal)")] }
        #expect(scene.barrier.guests == [web: links], "something may rest on it")
        scene.barrier.fail(.open, with: nil)
        try await scene.guardWeb()
        #expect(!scene.barrier.entries.contains { $0.vm == web && $0.call == .remove })
    }

    @Test func aSweepLeavesAloneWhatIsAskedFor() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        scene.leases.sweep(keeping: [])
        try await scene.settle()
        #expect(scene.barrier.guests.keys.contains(web))
    }

    static let failures: [(KernelGateError, Bool)] = [
        (.notPermitted, false),
        (.unavailable(SystemError(operation: "open", errno: 93, subject: "a netlink socket")), false),
        (.ownedByAnother, true),
    ]

    @Test(arguments: failures)
    func aSweepIsSilentWhereThereCanBeNoGate(_ failure: KernelGateError, _ isSaid: Bool) async throws {
        let scene = try LeaseScene(failure: failure)
        scene.leases.sweep(keeping: [web])
        try await scene.settle()
        #expect(scene.maker.made == 1)
        #expect(scene.log.all.count == (isSaid ? 1 : 0))
        #expect(scene.told.words == [])
    }

    @Test func aGateThatTheKernelHadShutOpensByAFreshAnswer() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        scene.barrier.shut(web)
        try await scene.waitUntil("the report") { scene.told.reports(with: "the kernel had shut the gate") == 1 }
        try await scene.waitUntil("the gate's opening") { scene.barrier.isOpen(web) }
        let shut = try #require(scene.barrier.calls.dropFirst(2).firstIndex(of: .open))
        #expect(scene.barrier.calls[shut - 1] == .renew)
        #expect(scene.told.count(of: .guarded) == 1)
    }

    @Test func whatTheKernelDoesNotDoIsSaidOnce() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        for round in 1...2 {
            scene.barrier.fail(.renew, with: .late)
            try await scene.waitUntil("the trouble") { scene.told.reports(with: "refused three requests") == round }
            let calls = scene.barrier.calls.count
            try await scene.waitUntil("more renewals") { scene.barrier.calls.count > calls + 5 }
            #expect(scene.told.reports(with: "refused three requests") == round)
            scene.barrier.fail(.renew, with: nil)
            try await scene.waitUntil("its end") { scene.told.reports(with: "does again") == round }
        }
        scene.barrier.beOverdue(true)
        try await scene.waitUntil("the delay") { scene.told.reports(with: "too slow") == 1 }
        scene.barrier.beOverdue(false)
        try await scene.waitUntil("its end") { scene.told.reports(with: "does again") == 3 }
        #expect(scene.told.news.count == 7)
    }

    @Test func aTableThatVanishedIsSaidToAllAndAnotherOneMade() async throws {
        let scene = try LeaseScene()
        let other = Told()
        try await scene.guardBoth(other)
        let (old, vanished) = (scene.barrier, Told.Word.unguardable("\(KernelGateError.vanished)"))
        scene.maker.use(TestBarrier())
        old.fail(.renew, with: .vanished)
        try await scene.waitUntil("the news") { scene.told.words.contains(vanished) && other.words.contains(vanished) }
        #expect(scene.maker.made == 1)
        try await scene.guardWeb()
        #expect(scene.maker.made == 2 && scene.barrier.isOpen(web))
        #expect(scene.told.count(of: vanished) == 1 && other.news == [.guarded, vanished])
    }

    @Test func whatIsTakenAwayIsTriedUntilItIsGone() async throws {
        let scene = try LeaseScene()
        try await scene.guardWeb()
        scene.barrier.fail(.remove, with: refusal)
        scene.leases.unguard(web)
        try await scene.waitUntil("several tries") { scene.barrier.calls.count(where: { $0 == .remove }) > 3 }
        #expect(scene.told.reports(with: "\(refusal)") == 1)
        scene.barrier.fail(.remove, with: nil)
        try await scene.waitUntil("the gate's removal") { scene.barrier.guests == [:] }
        scene.leases.unguard(web)
        try await scene.settle()
        #expect(scene.told.reports(with: "does again") == 1)
    }
}
