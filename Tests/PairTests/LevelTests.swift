import Messages
import Model
import Pair
import Protocol
import Storage
import Testing
import Wire

/// In which order the duties want what a level is made of.
@Suite struct LevelTests {
    private static let alpha = NodeName(unchecked: "alpha")
    private static let beta = NodeName(unchecked: "beta")
    private static let identity = StandbyIdentity(node: beta, incarnation: 3)

    private static func register(_ term: UInt64, _ level: Level) -> Register {
        Register(
            term: Term(term), owner: alpha, mode: .solo, session: .none, standby: nil, lineage: Lineage(9),
            level: level)
    }

    /// Alpha's, whose first copy is sealed and acknowledged.
    private static func sealed(_ level: Level) throws -> (duty: PrimaryDuty, wanted: [PrimaryDuty.Output]) {
        let names = PrimaryDuty.Names(
            VMName(unchecked: "db"), standby: beta, arbiter: "witness", isNamed: false, tookOver: false)
        var duty = PrimaryDuty(
            PrimaryMachine(tookOver: register(4, level), rule: .arbiter, reprotection: .automatic, seed: 1), names,
            tuning: EpochTuning(epochMilliseconds: 20),
            choice: StandbyChoice(beta, reserve: [], replaceAfter: 60_000_000_000), isAsked: true)
        let wanted = duty.sealFirst(with: identity)
        return (duty, wanted)
    }

    private static func paired(_ level: Level) throws -> PrimaryDuty {
        var (duty, wanted) = try sealed(level)
        if level != .system { wanted = duty.hear(.attached(.gate)) }
        _ = duty.grant(wanted, at: 3)
        for part in [DialMachine.Part.served, .detour] where level.parts.contains(part) {
            _ = duty.hear(.attached(part))
        }
        let isPaired = if case .paired = duty.machine.state { true } else { false }
        try #require(isPaired)
        return duty
    }

    @Test func theGateStandsBeforeThePairIsAskedFor() throws {
        var (duty, wanted) = try Self.sealed(.restart)
        #expect(
            words(wanted) == ["attach gate", "lease won", "release 1", "send released", "account for 0"])
        let asked = duty.hear(.attached(.gate))
        #expect(words(asked) == ["ask for alpha paired"])
        #expect(words(duty.grant(asked, at: 3)) == ["persist 5", "send register", "lease won"])
        #expect(duty.dial?.inForce == .restart)
    }

    @Test func goingUpHoldsBeforeTheTurnAndTakesTheGateAwayAfterIt() throws {
        var duty = try Self.paired(.component)
        #expect(words(duty.turn(to: .system)) == ["attach memory"])
        #expect(words(duty.hear(.attached(.memory))) == ["attach hold"])
        let asked = duty.hear(.attached(.hold))
        #expect(words(asked) == ["ask for alpha paired"])
        #expect(
            words(duty.grant(asked, at: 3))
                == ["persist 6", "send register", "lease won", "detach detour"])
        #expect(words(duty.hear(.detached(.detour))) == ["detach gate", "lease ended"])
        #expect(words(duty.hear(.detached(.gate))) == ["detach served"])
        #expect(duty.dial?.inForce == .system)
    }

    @Test func goingDownPutsTheGateBeforeTheTurnAndReleasesAfterIt() throws {
        var duty = try Self.paired(.system)
        #expect(words(duty.turn(to: .component)) == ["attach served"])
        #expect(words(duty.hear(.attached(.served))) == ["attach gate", "lease won"])
        #expect(words(duty.hear(.attached(.gate))) == ["attach detour"])
        let asked = duty.hear(.attached(.detour))
        #expect(words(asked) == ["ask for alpha paired"])
        #expect(words(duty.grant(asked, at: 3)) == ["persist 6", "send register", "lease won", "detach hold"])
        #expect(words(duty.hear(.detached(.hold))) == ["detach memory"])
    }

    /// I36: what is attached suffices for both levels as long as nobody knows which of them is in force.
    @Test func anUnknownAnswerChangesNothingThatIsAttached() throws {
        for (from, to) in [(Level.component, Level.system), (.system, .component)] {
            var duty = try Self.paired(from)
            var wanted = duty.turn(to: to)
            for part in [DialMachine.Part.served, .gate, .detour, .memory, .hold] where to.parts.contains(part) {
                wanted = duty.hear(.attached(part))
            }
            for case .ask(.compareAndSet(_, _, let nonce)) in wanted {
                #expect(words(duty.learn(.answered(nonce, .unknown("no answer")))) == ["read"])
            }
            #expect(words(duty.learn(.unreadable("no answer"))) == ["read"])
            #expect(
                duty.lastError
                    == "the turn of the dial waits for the arbiter, and the guest runs on protected as before: no answer"
            )
            #expect(duty.dial?.inForce == from && duty.dial?.step == .turning(to))
            #expect(duty.dial?.attached == from.parts.union(to.parts))
        }
    }

    /// I12: what is asked for instead of a turn does not undo it.
    @Test func aTurnIsOpenAlthoughSomethingElseIsAskedForMeanwhile() throws {
        var duty = try Self.paired(.component)
        _ = duty.turn(to: .system)
        _ = duty.hear(.attached(.memory))
        let asked = duty.hear(.attached(.hold))
        #expect(words(duty.unprotect()) == ["ask for alpha solo"])
        #expect(duty.dial?.step == .turning(.system) && duty.dial?.attached.contains(.hold) == true)
        for case .ask(.compareAndSet(_, let turned, _)) in asked {
            #expect(words(duty.learn(.read(turned))) == ["ask for alpha solo", "lease won"])
            #expect(duty.dial?.step == .turning(.system), "what is asked for now ends the pair")
        }
    }

    @Test func aTurnThatIsRefusedTakesAwayWhatWasAttachedForIt() throws {
        var duty = try Self.paired(.system)
        _ = duty.turn(to: .restart)
        _ = duty.switchOver()
        #expect(words(duty.hear(.attached(.gate))) == ["detach gate", "lease ended"])
        #expect(duty.dial?.inForce == .system)
    }

    /// The register says so already, so the part is attached as the session begins.
    @Test func aSessionAtLevelComponentBeginsWithTheWayThroughTheOtherHost() throws {
        var (duty, _) = try Self.sealed(.component)
        let wanted = words(duty.grant(duty.hear(.attached(.gate)), at: 3))
        #expect(wanted == ["persist 5", "send register", "lease won", "attach served"])
        #expect(words(duty.hear(.attached(.served))) == ["attach detour"] && !duty.mayCarry)
        #expect(words(duty.hear(.attached(.detour))).isEmpty && duty.mayCarry)
        _ = duty.hear(.livesBy(.detour, "net0 is carried"))
        for level in [Level.restart, .system] { #expect(words(duty.turn(to: level)).isEmpty) }
        #expect(duty.dial?.reason?.contains("net0 is carried") == true && duty.dial?.inForce == .component)
        _ = duty.hear(.livesBy(.detour, nil))
        #expect(words(duty.turn(to: .restart)) == ["ask for alpha paired"])
        #expect(!duty.mayCarry)
    }

    /// I40.
    @Test func aDiskThatIsLostIsKnownAtTheStandbyBeforeItIsDoneWithout() throws {
        var duty = try Self.paired(.component)
        var report = ServedReport(loss: 1)
        report.lost = "broken"
        #expect(words(duty.hear(disk: 0, "disk0", report)) == ["send note"])
        #expect(duty.machine.isCopyLost && duty.copies.losses[0]?.disk == "disk0")
        #expect(words(duty.take(.noted(DiskNoted(disk: 0, loss: 1)), at: 1)) == ["noted disk 0"])
        report.isNoted = true
        #expect(words(duty.hear(disk: 0, "disk0", report)).isEmpty)
        // A server that was started anew knows nothing of that.
        report.isNoted = false
        #expect(words(duty.hear(disk: 0, "disk0", report)) == ["send note"])
        report.isNoted = true
        #expect(words(duty.hear(disk: 0, "disk0", report)).isEmpty)
        for level in [Level.restart, .system] { #expect(words(duty.turn(to: level)).isEmpty) }
        #expect(duty.dial?.reason?.contains("disk disk0 is lost here: broken") == true)
        #expect(words(duty.hear(disk: 0, "disk0", ServedReport(loss: 1))) == ["send note"])
        #expect(!duty.machine.isCopyLost && duty.copies.losses.isEmpty)
        // One of a disk that is served anew counts its losses anew.
        report.isNoted = false
        #expect(words(duty.hear(disk: 0, "disk0", report)) == ["send note"])
        _ = duty.hear(disk: 0, "disk0", ServedReport(loss: 1))
        #expect(words(duty.turn(to: .restart)) == ["ask for alpha paired"])
    }

    /// I40: SOLO may be granted at any time from here on, and the guest would go on here without what was done there.
    @Test func nothingIsDoneAtTheStandbyAloneOnceSoloIsAskedFor() throws {
        var duty = try Self.paired(.component)
        #expect(words(duty.unprotect()) == ["ask for alpha solo"])
        var report = ServedReport(loss: 1)
        report.lost = "broken"
        let outputs = duty.hear(disk: 0, "disk0", report)
        #expect(words(outputs).isEmpty && duty.machine.isCopyLost)
        let told = outputs.contains { output in
            guard case .report(.event(.diskFault, let text)) = output else { return false }
            return text.contains("waits until it is certain who goes on")
        }
        #expect(told)
    }

    /// In maintenance the standby asks again and again; the guest stays protected, and the standby has not left.
    @Test func aStandbyThatHasTheOnlyCopyIsToldWhyItStays() throws {
        var duty = try Self.paired(.component)
        var report = ServedReport(loss: 1)
        report.lost = "broken"
        _ = duty.hear(disk: 0, "disk0", report)
        let outputs = duty.take(.wish(WishMessage(.leave, reason: "beta is in maintenance")), at: 1)
        #expect(duty.lastError?.contains("stays it") == true && duty.connection.leaving == nil)
        #expect(words(outputs).isEmpty)
        _ = duty.hear(disk: 0, "disk0", ServedReport(loss: 1))
        let again = duty.take(.wish(WishMessage(.leave, reason: "beta is in maintenance")), at: 2)
        #expect(words(again) == ["ask for alpha solo"])
    }

    /// Whose guest it is decides who ends it.
    @Test func aGuestThatWasLeftServedIsEndedOnlyWhereItWasThisHosts() throws {
        #expect(!PrimaryOrigin.named.endsUnservable && !PrimaryOrigin.wanted.endsUnservable)
        let found = PrimaryOrigin.found(Lineage(1))
        #expect(found.endsUnservable && !found.asksAgain(after: SessionError(.storage, "its server is gone")))
        #expect(found.asksAgain(after: SessionError(.qemu, "no answer")))
        let refusal = PrimaryOrigin.named.refusal(of: VMName(unchecked: "db"), at: Self.beta, 7, "no server")
        #expect(refusal.code == .refused && refusal.message.contains("is left as it is: no server"))
    }

    @Test func withoutAWayThroughTheOtherHostTheLevelFalls() throws {
        var (duty, _) = try Self.sealed(.component)
        _ = duty.grant(duty.hear(.attached(.gate)), at: 3)
        _ = duty.hear(.attached(.served))
        let asked = duty.hear(.attachFailed(.detour, "no uplink"))
        #expect(words(asked) == ["ask for alpha paired"])
        _ = duty.grant(asked, at: 3)
        #expect(duty.dial?.inForce == .restart && duty.dial?.asked == .component)
        #expect(duty.dial?.reason == "detour cannot be attached: no uplink")
        // What works by then is had.
        _ = duty.hear(.detached(.served))
        #expect(words(duty.turn(to: .component)) == ["attach served"])
    }

    @Test func theChangeIsOverWhenTheStandbyIsLost() throws {
        var duty = try Self.paired(.component)
        _ = duty.turn(to: .system)
        let lost = duty.loseStandby("silent")
        #expect(duty.dial == nil)
        #expect(duty.hear(.attached(.memory)).isEmpty)
        #expect(words(duty.grant(lost, at: 3)) == ["persist 6", "releaseEverything", "detach", "lease ended"])
    }

    @Test func aGuestThatDiedStartsWhenTheLeaseLetsIt() throws {
        var duty = try Self.paired(.restart)
        #expect(words(duty.handle(.guestLost)) == ["tryStart"])
        let asked = duty.handle(.startable)
        #expect(words(asked) == ["ask for alpha solo"])
        let wanted = words(duty.grant(asked, at: 3))
        #expect(wanted.suffix(3) == ["detach", "lease ended", "lease won"])
        #expect(words(duty.mayRun()) == ["startGuest", "lease ended"])
    }

    @Test func aGuestThatCannotStartIsTheStandbys() throws {
        var duty = try Self.paired(.restart)
        _ = duty.handle(.guestLost)
        let outputs = duty.failToStart(SessionError(.refused, "three times"), starts: 3)
        #expect(words(outputs).first == "send takeOver" && words(outputs).contains("becomeStandby"))
        #expect(duty.lastError?.hasSuffix("is to start it: three times") == true, "\(duty.lastError ?? "")")
    }

    // MARK: - The standby

    @Test func aStandbyPromisesAndWaitsAtTheLowerLevelsOnly() throws {
        for level in Level.allCases {
            var machine = StandbyMachine(node: Self.beta, rule: .arbiter, record: LocalRecord(), seed: 1)
            let session = SessionID(7)
            let offer = SessionOffer(
                session: session, term: Term(1), lineage: Lineage(9), level: level, primary: Self.alpha)
            _ = machine.handle(.offered(offer))
            _ = machine.handle(.persisted(Term(1)))
            _ = machine.handle(.prepared(session))
            var duty = StandbyDuty(
                machine, of: VMName(unchecked: "db"), arbiter: "witness", ceiling: 500, isLinked: true,
                applied: .firstCopy)
            _ = duty.stage(Epoch(1), .of(1))
            _ = duty.apply(Epoch(1))
            let pair = Register(
                term: Term(2), owner: Self.alpha, mode: .paired, session: session,
                standby: duty.machine.image?.identity, lineage: Lineage(9), level: level)
            let isLow = level != .system
            #expect(try words(duty.take(.register(pair), at: 0)).contains("lease standsBy") == isLow)
            let asked = duty.loseLink("silent", at: 1, hostLives: false)
            #expect(words(asked).contains("lease asksToTakeOver") == isLow)
            #expect(words(asked).contains("load 1") == !isLow)
            for case .ask(.compareAndSet(_, let new, let nonce)) in asked {
                #expect(words(duty.learn(.answered(nonce, .applied(new)))).contains("lease won") == isLow)
            }
            _ = duty.persisted(Term(3), at: 2)
            #expect(words(duty.handle(.cleared)) == (isLow ? ["startFromDisk"] : []))
        }
    }
}
