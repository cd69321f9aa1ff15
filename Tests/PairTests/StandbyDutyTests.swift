import Messages
import Model
import Pair
import Protocol
import Testing
import Wire

/// What a standby decides, without a shell around it.
@Suite struct StandbyDutyTests {
    private static let alpha = NodeName(unchecked: "alpha")
    private static let beta = NodeName(unchecked: "beta")
    private static let other = SessionError(.system, "something else was decided")
    private static let ceiling: UInt64 = 500
    private static let session = SessionID(7)

    /// A machine of beta's that has accepted an offer of alpha's.
    private static func accepted(_ rule: Rule, fences: Set<NodeName> = [], waits: Bool = false) -> StandbyMachine {
        var machine = StandbyMachine(node: beta, rule: rule, record: LocalRecord(), fences: fences, seed: 1)
        let offer = SessionOffer(
            session: session, term: Term(1), lineage: Lineage(9), level: .system, primary: alpha, waits: waits)
        _ = machine.handle(.offered(offer))
        _ = machine.handle(.persisted(machine.record.seen))
        _ = machine.handle(.prepared(session))
        return machine
    }

    private static func duty(_ machine: StandbyMachine, listensSince: UInt64? = nil) -> StandbyDuty {
        StandbyDuty(
            machine, of: VMName(unchecked: "db"), arbiter: "witness", ceiling: ceiling, isLinked: listensSince == nil,
            listensSince: listensSince, applied: machine.applied)
    }

    /// One that has checkpoint 1 whole, and was told of the pair.
    private static func holding(
        _ rule: Rule = .arbiter, fences: Set<NodeName> = [], waits: Bool = false
    ) throws -> StandbyDuty {
        var duty = duty(accepted(rule, fences: fences, waits: waits))
        _ = duty.stage(Epoch(1), .of(1))
        _ = duty.apply(Epoch(1))
        _ = try duty.take(.register(try pair(duty)), at: 0)
        #expect(duty.machine.state == .holding && duty.phase == .protected)
        return duty
    }

    private static func pair(_ duty: StandbyDuty) throws -> Register {
        let identity = try #require(duty.machine.image?.identity)
        return Register(
            term: Term(2), owner: alpha, mode: .paired, session: session, standby: identity, lineage: Lineage(9),
            level: .system)
    }

    // MARK: - The register

    /// A claim of an operator's comes before everything that this host won.
    @Test func whoWonAndIsToldOfALaterTermGivesTheImageUp() throws {
        var duty = try Self.holding()
        let wanted = duty.loseLink("silence", at: 0, hostLives: false)
        let asked = wanted.compactMap { output -> (new: Register, nonce: Nonce)? in
            if case .ask(.compareAndSet(_, let new, let nonce)) = output { (new, nonce) } else { nil }
        }
        let (won, nonce) = try #require(asked.first)
        _ = duty.learn(.answered(nonce, .applied(won)))
        #expect(duty.lose(to: won).isEmpty)
        var later = won
        later.term = Term(won.term.number + 1)
        #expect(words(duty.lose(to: later)).contains("dismantle") && duty.machine.state == .none)
    }

    // MARK: - Epochs

    @Test func nothingIsAcknowledgedBeforeCheckpointOneIsApplied() {
        var duty = Self.duty(Self.accepted(.arbiter))
        #expect(words(duty.stage(Epoch(1), .of(1))) == ["apply 1"])
        #expect(words(duty.stage(Epoch(2), .of(2))) == ["apply 2"])
        #expect(words(duty.apply(Epoch(1))) == ["acknowledge 1", "acknowledge 2"])
        #expect(words(duty.stage(Epoch(3), .of(3))) == ["acknowledge 3", "apply 3"])
    }

    @Test func anAcknowledgementRepeatsTheDigestOfWhatCame() throws {
        var duty = try Self.holding()
        let sent = duty.stage(Epoch(2), .of(42)).compactMap { output -> CheckpointDigest? in
            if case .send(.acknowledge(_, let digest)) = output { digest } else { nil }
        }
        #expect(sent == [.of(42)])
    }

    @Test func aFirstCopyThatLacksAFrameBreaksTheProtocol() throws {
        var duty = Self.duty(Self.accepted(.arbiter))
        duty.noteFirstCopy(100)
        duty.noteFirstCopy(50)
        #expect(throws: SessionError.self) {
            try duty.take(.synced(Synced(frameCount: 3, byteCount: 200)), at: 0)
        }
        #expect(try duty.take(.synced(Synced(frameCount: 2, byteCount: 150)), at: 0).isEmpty)
    }

    // MARK: - The primary is lost

    @Test func theArbiterIsAskedWhenTheLinkIsLost() throws {
        var duty = try Self.holding()
        let wanted = words(duty.loseLink("silent", at: 0, hostLives: false))
        #expect(wanted == ["closeLink", "discard 1", "load 1", "ask for beta solo"])
        #expect(duty.takeOver?.cause == .primaryLost && duty.takeOver?.reason == "silent")
    }

    @Test func aPrimaryWhoseHostIsHeardIsLetAskFirst() throws {
        var duty = try Self.holding()
        #expect(words(duty.loseLink("silent", at: 100, hostLives: true)) == ["closeLink"])
        #expect(duty.phase == .peerLost && duty.machine.state == .holding)
        #expect(duty.beat(at: 100 + Self.ceiling - 1, hostLives: true).isEmpty)
        let wanted = words(duty.beat(at: 100 + Self.ceiling, hostLives: true))
        #expect(wanted == ["discard 1", "load 1", "ask for beta solo"])
    }

    @Test func itIsNotWaitedForOnceItsHostIsSilentToo() throws {
        var duty = try Self.holding()
        _ = duty.loseLink("silent", at: 100, hostLives: true)
        #expect(words(duty.beat(at: 101, hostLives: false)).contains("ask for beta solo"))
    }

    @Test func withoutAnArbiterAnImageWaitsForTheOperator() throws {
        var duty = try Self.holding(.manual(.freeze))
        #expect(words(duty.loseLink("silent", at: 0, hostLives: true)) == ["closeLink", "discard 1"])
        let wanted = words(duty.goOn(because: "it burnt", at: 5, hostLives: false))
        #expect(wanted.contains("load 1") && duty.takeOver?.cause == .operator)
    }

    @Test func whatThePrimaryDidWrongLeavesTheImageWhole() throws {
        var duty = try Self.holding()
        let wanted = words(duty.fail(SessionError(.protocolBroken, "nonsense"), at: 0, hostLives: false))
        #expect(wanted == ["goodbye failed", "closeLink", "discard 1", "load 1", "ask for beta solo"])
    }

    @Test func aFailureOfItsOwnLosesTheImage() throws {
        var duty = try Self.holding()
        let wanted = words(duty.fail(SessionError(.storage, "the disk is full"), at: 0, hostLives: false))
        #expect(wanted == ["goodbye failed", "closeLink", "settle with a failure", "dismantle"])
        #expect(words(duty.dismantled()).isEmpty && duty.isFinished)
    }

    @Test func aRestartedAgentListensForThePrimaryFirst() throws {
        let image = try #require(Self.accepted(.arbiter).image)
        let machine = StandbyMachine(
            node: Self.beta, rule: .arbiter, record: LocalRecord(seen: Term(2)), seed: 1, found: image,
            staged: Epoch(5), applied: Epoch(5), isLoaded: false)
        var duty = Self.duty(machine, listensSince: 1000)
        #expect(duty.beat(at: 1000 + Self.ceiling, hostLives: false).isEmpty && duty.isListening)
        #expect(words(duty.beat(at: 1001 + Self.ceiling, hostLives: false)) == ["load 5", "read"])
        #expect(!duty.isListening && duty.takeOver?.reason == "this agent was restarted")
    }

    // MARK: - Switchover

    @Test func aStandbyThatGetsNoAnswerDeclinesAndStaysOne() throws {
        var duty = try Self.holding()
        #expect(words(try duty.take(.takeOver(Term(3), guestStands: true, starts: 0), at: 0)) == ["read at once"])
        let outputs = duty.learn(.unreadable("it is away"))
        #expect(words(outputs) == ["goodbye handedBack"])
        guard case .send(.goodbye(let message))? = outputs.last else { throw Self.other }
        #expect(message.staysStandby == true && duty.machine.state == .holding)
        guard case .failed = duty.switchover else { throw Self.other }
        // Another wish forgets it.
        #expect(words(duty.ask(.switchover, because: "planned")) == ["send wish"])
        #expect(duty.switchover == .underWay)
    }

    @Test func theTimesOfATakeoverAreKept() throws {
        var duty = try Self.holding()
        _ = duty.loseLink("silent", at: 10, hostLives: false)
        _ = duty.loaded(at: 20)
        var nonce: Nonce?
        var again = try Self.holding()
        for case .ask(.compareAndSet(_, let new, let asked)) in again.loseLink("silent", at: 10, hostLives: false) {
            nonce = asked
            #expect(words(duty.learn(.answered(asked, .applied(new)))) == ["persist 3"])
        }
        #expect(nonce != nil)
        #expect(words(duty.persisted(Term(3), at: 30)) == ["resume 1"])
        let request = try #require(duty.takeOver)
        #expect((request.decidedAt, request.loadedAt, request.recordedAt) == (10, 20, 30))
    }

    // MARK: - The end

    @Test(arguments: [(GoodbyeMessage.Kind.failed, true), (.unprotected, false)])
    func theMemoryIsKeptForAPrimaryThatMayComeBack(_ kind: GoodbyeMessage.Kind, _ isKept: Bool) throws {
        var duty = try Self.holding()
        let wanted = words(try duty.take(.goodbye(GoodbyeMessage(kind: kind, reason: "so")), at: 0))
        #expect(wanted == ["goodbye unprotected", "closeLink", "settle with a failure", "dismantle"])
        #expect(duty.keepsMemory == isKept)
    }

    @Test func nobodyIsToldOnALinkThatIsGone() throws {
        var duty = try Self.holding(.manual(.runAlone))
        _ = duty.loseLink("silent", at: 0, hostLives: false)
        #expect(duty.ask(.leave, because: "maintenance").isEmpty)
        #expect(words(duty.loseQEMU("died")) == ["settle with a failure", "dismantle"])
    }

    @Test func anotherOfferStopsTheFencingForTheImageBefore() throws {
        var duty = try Self.holding(.manual(.freeze), fences: [Self.alpha], waits: true)
        #expect(words(duty.loseLink("silent", at: 0, hostLives: false)).last == "fence alpha")
        let offer = SessionOffer(
            session: SessionID(8), term: Term(3), lineage: Lineage(9), level: .system, primary: Self.alpha)
        guard case .followed(let machine, _, let outputs) = duty.consider(offer) else { throw Self.other }
        #expect(words(outputs) == ["stopFencing", "closeLink", "stopAsking", "dismantle"])
        #expect(machine.image?.session == SessionID(8))
    }

    @Test func anOlderOfferIsRefused() throws {
        var duty = try Self.holding()
        let offer = SessionOffer(
            session: SessionID(8), term: Term(1), lineage: Lineage(9), level: .system, primary: Self.alpha)
        guard case .refused = duty.consider(offer) else { throw Self.other }
        #expect(duty.isLinked && duty.machine.state == .holding)
    }
}
