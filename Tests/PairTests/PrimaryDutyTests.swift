import Messages
import Model
import Pair
import Protocol
import Testing
import Wire

/// What a primary decides, without a shell around it.
@Suite struct PrimaryDutyTests {
    private static let alpha = NodeName(unchecked: "alpha")
    private static let beta = NodeName(unchecked: "beta")
    private static let other = SessionError(.system, "something else was decided")
    private static let identity = StandbyIdentity(node: beta, incarnation: 3)

    /// Alpha's, of a guest that runs alone.
    private static func alone(_ rule: Rule = .arbiter, isNamed: Bool = false, tookOver: Bool = false) -> PrimaryDuty {
        let register = Register(
            term: Term(4), owner: alpha, mode: .solo, session: .none, standby: nil, lineage: Lineage(9), level: .system)
        let names = PrimaryDuty.Names(
            VMName(unchecked: "db"), standby: beta, arbiter: "witness", isNamed: isNamed, tookOver: tookOver)
        return PrimaryDuty(
            PrimaryMachine(tookOver: register, rule: rule, reprotection: .automatic, seed: 1), names,
            tuning: EpochTuning(epochMilliseconds: 20),
            choice: StandbyChoice(beta, reserve: [], replaceAfter: 60_000_000_000), isAsked: true)
    }

    private static var acceptance: AcceptMessage {
        AcceptMessage(
            identity: identity, qemuPID: 1, qemuVersion: "10.0", baseBytes: 0, heartbeatMilliseconds: nil,
            verifies: true)
    }

    /// One whose offer is made.
    private static func offering(isNamed: Bool = false, tookOver: Bool = false) throws -> PrimaryDuty {
        var duty = alone(isNamed: isNamed, tookOver: tookOver)
        let outputs = duty.seekStandby(at: 0)
        #expect(words(outputs) == ["offer"])
        guard case .order(.offer(let offer))? = outputs.first else { throw SessionError(.system, "no offer") }
        duty.begin(offer)
        #expect(!duty.isAsked)
        return duty
    }

    private static func seal(_ epoch: Epoch, _ duty: inout PrimaryDuty, isLast: Bool = false) -> [String] {
        let wanted = words(duty.seal(epoch, isLast: isLast))
        var timings = EpochTimings()
        timings.epoch = epoch
        duty.expect(epoch, .of(UInt8(epoch.number)), timings, waited: 0, at: 1)
        return wanted
    }

    /// One whose standby can take over.
    private static func paired(tookOver: Bool = false) throws -> PrimaryDuty {
        var duty = try offering(tookOver: tookOver)
        _ = duty.take(.accept(acceptance), at: 0)
        #expect(words(duty.agree(identity)) == ["startCopy"])
        #expect(seal(Epoch(1), &duty) == ["hold"])
        for case .ask(.compareAndSet(_, let new, let nonce)) in duty.take(.acknowledge(Epoch(1), .of(1)), at: 2) {
            #expect(words(duty.learn(.answered(nonce, .applied(new)))) == ["persist 5"])
        }
        #expect(words(duty.persisted(Term(5), at: 3)) == ["send register"])
        #expect(duty.phase == .protected && duty.machine.session != nil)
        return duty
    }

    // MARK: - Epochs

    @Test func anAcknowledgementReleasesItsEpochAndIsAccountedFor() throws {
        var duty = try Self.paired()
        _ = Self.seal(Epoch(2), &duty)
        let wanted = words(duty.take(.acknowledge(Epoch(2), .of(2)), at: 9))
        #expect(wanted == ["release 2", "send released", "account for 2"])
    }

    @Test func anAcknowledgementOfSomethingElseEndsTheSession() throws {
        var duty = try Self.paired()
        _ = Self.seal(Epoch(2), &duty)
        let wanted = words(duty.take(.acknowledge(Epoch(2), .of(3)), at: 9))
        #expect(wanted == ["closeLink", "ask for alpha solo"])
        #expect(duty.phase == .peerLost && duty.machine.state == .lonely)
    }

    @Test func aLostStandbyIsOutlivedByTheArbitersWordOnly() throws {
        var duty = try Self.paired()
        let outputs = duty.loseStandby("silent")
        #expect(words(outputs) == ["closeLink", "ask for alpha solo", "closeLink"])
        #expect(duty.connection.linkDown == "silent")
        #expect(duty.loseStandby("again").isEmpty, "it is lost once")
        for case .ask(.compareAndSet(_, let new, let nonce)) in outputs {
            #expect(words(duty.learn(.answered(nonce, .applied(new)))) == ["persist 6"])
        }
        #expect(words(duty.persisted(Term(6), at: 9)) == ["releaseEverything", "detach"])
        #expect(words(duty.end(SessionError(.peerLost, "silent"))).isEmpty && duty.phase == .peerLost)
    }

    // MARK: - The offer

    @Test(arguments: [true, false]) func onlyAGuestThatWasNamedEndsWithItsFirstSession(_ isNamed: Bool) throws {
        var duty = try Self.offering(isNamed: isNamed)
        _ = duty.take(.refuse(RefuseMessage(because: "no room")), at: 0)
        guard case .failure(let error)? = duty.connection.answer else { throw Self.other }
        #expect(error.code == .standbyRefused)
        #expect(words(duty.end(error)) == ["closeLink"])
        #expect((duty.phase == .peerLost) == !isNamed)
        #expect(duty.machine.state == .solo)
    }

    @Test func whatARefusalKnowsOfTheRegisterIsHeardFirst() throws {
        var duty = try Self.offering()
        var register = try #require(duty.machine.register)
        (register.term, register.owner) = (Term(9), Self.beta)
        let wanted = words(duty.take(.refuse(RefuseMessage(because: "it is mine", knows: register)), at: 0))
        #expect(wanted == ["hold", "closeLink", "read"])
    }

    @Test func aTuningIsToldOnceTheStandbyHasAgreed() throws {
        var duty = try Self.offering()
        #expect(duty.tune(EpochTuning(epochMilliseconds: 30)).isEmpty)
        _ = duty.take(.accept(Self.acceptance), at: 0)
        #expect(words(duty.tune(EpochTuning(epochMilliseconds: 40))) == ["send tuning"])
        _ = duty.loseStandby("silent")
        #expect(duty.tune(EpochTuning(epochMilliseconds: 50)).isEmpty && duty.tuning.epochMilliseconds == 50)
    }

    @Test func aLinkThatClosesBeforeTheAnswerIsTheAnswer() throws {
        var duty = try Self.offering()
        #expect(words(duty.noteClosedLink("it hung up")) == ["closeLink", "closeLink"])
        #expect(duty.connection.answer.map { (try? $0.get()) == nil } == true)
    }

    // MARK: - Switchover

    /// One whose guest stands still and whose standby was asked to go on, at 100.
    private static func handingOver() throws -> PrimaryDuty {
        var duty = try paired()
        guard case .done(let outputs) = duty.switchOver() else { throw SessionError(.system, "refused") }
        #expect(words(outputs) == ["read"])
        #expect(words(duty.learn(.read(duty.machine.register))) == ["sealLast"])
        _ = seal(Epoch(2), &duty, isLast: true)
        let wanted = words(duty.take(.acknowledge(Epoch(2), .of(2)), at: 100))
        #expect(wanted == ["release 2", "send released", "send takeOver", "account for 2"])
        #expect(duty.awaitsHandOver)
        return duty
    }

    @Test func aStandbyThatSaysNothingIsOverdue() throws {
        var duty = try Self.handingOver()
        #expect(duty.beat(at: 100 + PrimaryDuty.handOverMax).isEmpty)
        let wanted = words(duty.beat(at: 101 + PrimaryDuty.handOverMax))
        #expect(wanted == ["closeLink", "resumeGuest", "ask for alpha solo"])
        #expect(!duty.awaitsHandOver)
    }

    @Test func aStandbyThatDeclinesLetsTheGuestRunOn() throws {
        var duty = try Self.handingOver()
        let message = GoodbyeMessage(kind: .handedBack, reason: "no answer", staysStandby: true)
        #expect(words(duty.take(.goodbye(message), at: 200)) == ["resumeGuest"])
        #expect(!duty.awaitsHandOver && duty.phase == .protected)
    }

    @Test func anImpossibleSwitchoverIsRefusedAtOnce() throws {
        var duty = Self.alone()
        guard case .refused = duty.switchOver() else { throw Self.other }
        guard case .refused = duty.settle(goesOn: true) else { throw Self.other }
    }

    // MARK: - The end

    @Test func aStandbyThatFailedIsLostAndOneThatWasSentAwayIsNot() throws {
        var duty = try Self.paired()
        let failed = GoodbyeMessage(kind: .failed, reason: "its disk is full")
        #expect(words(duty.take(.goodbye(failed), at: 9)).contains("ask for alpha solo"))
        #expect(duty.connection.linkDown == "beta: its disk is full")

        var leaving = try Self.paired()
        #expect(words(leaving.unprotect()) == ["ask for alpha solo"])
        _ = leaving.take(.goodbye(failed), at: 9)
        #expect(leaving.connection.linkDown == "the standby has let go")
        #expect(leaving.phase == .protected, "acknowledgements may be missing, and nothing is lost")
    }

    @Test func aFailureIsToldToTheStandby() throws {
        var duty = try Self.offering()
        _ = duty.take(.accept(Self.acceptance), at: 0)
        _ = duty.agree(Self.identity)
        let wanted = words(duty.fail(SessionError(.storage, "the mirror failed")))
        #expect(wanted == ["closeLink", "releaseEverything", "detach", "closeLink"])
        #expect(duty.failure?.code == .storage)
        #expect(words(duty.unprotect()) == ["goodbye failed", "closeLink", "releaseEverything", "detach", "end"])
    }

    // MARK: - A disk that fails

    private static func reason(
        _ duty: PrimaryDuty, _ policy: DiskFaultPolicy = .failover, isArbiterUp: Bool = true, silence: UInt64 = 0,
        tenure: UInt64 = 0
    ) -> String? {
        DiskFaultSight(policy: policy, isArbiterUp: isArbiterUp, silence: silence, tenure: tenure)
            .reasonToLiveWithIt(duty)
    }

    @Test func onlyAStandbyThatCanGoesOnWithAGuestWhoseDiskFails() throws {
        var duty = try Self.paired()
        #expect(Self.reason(duty) == nil)
        #expect(Self.reason(duty, .report) == "disk_fault is “report”")
        #expect(
            Self.reason(duty, isArbiterUp: false) == "the arbiter does not answer, and nobody goes on without its word")
        #expect(Self.reason(duty, silence: 300_000_000) == nil)
        #expect(Self.reason(duty, silence: 301_000_000) == "the standby was not heard of for 301 ms")
        #expect(Self.reason(Self.alone()) == "no standby can go on with it now")
        #expect(Self.reason(try Self.offering()) == "no standby can go on with it now")
        // Whoever ends protection or moves the guest has asked the arbiter for something else.
        var ending = duty
        _ = ending.unprotect()
        #expect(Self.reason(ending) == "no standby can go on with it now")
        _ = duty.switchOver()
        #expect(Self.reason(duty) == "no standby can go on with it now")
    }

    @Test func aGuestThatJustCameHereStays() throws {
        let minute: UInt64 = 60_000_000_000
        let duty = try Self.paired(tookOver: true)
        #expect(Self.reason(duty, tenure: minute - 1) == "it came here by a failover 59 s ago")
        #expect(Self.reason(duty, tenure: minute) == nil)
    }
}
