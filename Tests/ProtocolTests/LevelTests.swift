import Model
import Protocol
import Testing

/// What the machines do at the levels whose output is not held.
@Suite struct LevelTests {
    /// A primary whose register says SOLO at that level.
    private func solo(_ level: Level = .restart) -> PrimaryScene {
        var scene = PrimaryScene.solo()
        scene.feed(.setLevel(level))
        scene.settle()
        return scene
    }

    /// The disks are copied, and that is sealed.
    private func pairing(_ level: Level = .restart) -> PrimaryScene {
        var scene = solo(level)
        scene.feed(.candidate(beta, asked: false))
        scene.feed(.accepted(scene.session, standby))
        scene.settle()
        scene.feed(.sealed(scene.session, Epoch(1)))
        return scene
    }

    private func paired(_ level: Level = .restart) -> PrimaryScene {
        var scene = pairing(level)
        scene.feed(.guarded(scene.session))
        scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true))
        scene.settle()
        return scene
    }

    /// What the last one was protected at says nothing of it; one that was ours keeps its level.
    @Test func aGuestThatIsNamedHasTheLevelThatWasAskedFor() {
        let register = solo().register
        var scene = PrimaryScene(register: register, seed: 8)
        scene.feed(.started)
        scene.settle()
        #expect(scene.register?.level == .system && scene.machine.level == .system)
        scene = PrimaryScene(guest: .ours(register.unsafelyUnwrapped.lineage), register: register, seed: 8)
        scene.feed(.started)
        scene.settle()
        #expect(scene.register?.level == .restart)
    }

    @Test func aGateStandsInPlaceOfHolding() {
        var scene = solo()
        scene.feed(.candidate(beta, asked: false))
        #expect(scene.feed(.accepted(scene.session, standby)) == [.startCopy])
        #expect(scene.feed(.sealed(scene.session, Epoch(1))) == [.guardOutput])
    }

    /// I36: both are there before the register may say PAIRED, whichever comes first.
    @Test func aPairNeedsTheGateAndTheDisks() {
        var scene = pairing()
        #expect(scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true)).request == nil)
        #expect(scene.feed(.guarded(SessionID(99))) == [])
        #expect(scene.feed(.guarded(scene.session)).request?.new.mode == .paired)
        #expect(scene.feed(.guarded(scene.session)) == [])

        scene = pairing()
        #expect(scene.feed(.guarded(scene.session)) == [])
        let asked = scene.feed(.acknowledged(scene.session, Epoch(1), digestMatches: true)).request
        #expect(asked?.new.level == .restart && asked?.new.mode == .paired)
    }

    @Test func aGuestThatDiedIsStartedHereOnceTheRegisterSaysSolo() {
        var scene = paired()
        #expect(scene.feed(.guestLost) == [.tryStart])
        #expect(scene.feed(.setLevel(.system)).deeds == [], "nobody has its memory")
        #expect(scene.feed(.startable).request?.new.mode == .solo)
        let actions = scene.settle()
        #expect(actions.suffix(2) == [.detach, .startGuest(scene.register.unsafelyUnwrapped.term)])
        #expect(scene.feed(.candidate(beta, asked: true)) == [], "there is no guest to be copied")
        scene.feed(.guestStarted)
        #expect(!scene.feed(.candidate(beta, asked: true)).isEmpty)
    }

    @Test func aGuestThatDiedAloneIsStartedAtOnceAndAsOftenAsItDies() {
        var scene = solo()
        let start = [PrimaryMachine.Action.startGuest(scene.register.unsafelyUnwrapped.term)]
        #expect(scene.feed(.guestLost) == start)
        #expect(scene.feed(.guestLost) == start)
        scene = pairing()
        #expect(scene.feed(.guestLost).last == start[0])
        #expect(scene.machine.state == .solo)
    }

    @Test func aGuestThatDiedIsNotStartedWhereAnotherHostWon() {
        var scene = paired()
        scene.feed(.guestLost)
        scene.feed(.startable)
        scene.register = scene.takenOver()
        let actions = scene.settle()
        #expect(!actions.contains { if case .startGuest = $0 { true } else { false } })
        #expect(!actions.contains(.killGuest) && actions.contains(.dropHeld))
        #expect(scene.machine.state == .fenced)
    }

    // MARK: - A guest that cannot be started where it ran

    private func dead(_ level: Level = .restart) -> PrimaryScene {
        var scene = paired(level)
        scene.feed(.guestLost)
        return scene
    }

    private func isAskedToStart(_ actions: [PrimaryMachine.Action]) -> Bool {
        actions.contains { if case .askToStart(_, 3, "no tap") = $0 { true } else { false } }
    }

    /// Nothing was asked for, so the standby has the right to go on that it has whenever its primary is lost.
    @Test(arguments: [Level.restart, .component]) func itIsTheStandbysToStart(level: Level) {
        var scene = dead(level)
        let actions = scene.feed(.unstartable("no tap", starts: 3))
        #expect(isAskedToStart(actions) && actions.request == nil && actions.contains(.dropHeld))
        #expect(scene.machine.state == .fenced)
        #expect(scene.feed(.startable) == [] && scene.feed(.guestStarted) == [])
    }

    /// It was given away lately, or is to stay down: this host goes on alone with that.
    @Test func elseItStaysHere() {
        var scene = dead()
        let actions = scene.feed(.unstartable("no tap", starts: nil))
        #expect(!isAskedToStart(actions) && actions.request?.new.mode == .solo)
        #expect(scene.settle().contains { if case .startGuest = $0 { true } else { false } })
    }

    /// I41: from the asking for SOLO on the guest may run here at any time.
    @Test func itIsNotGivenAwayOnceSoloWasAskedFor() {
        for event in [PrimaryMachine.Event.startable, .standbyLost(paired().session), .unprotect] {
            var scene = dead()
            #expect(scene.feed(event).request?.new.mode == .solo, "\(event)")
            #expect(scene.feed(.unstartable("no tap", starts: 3)) == [], "\(event)")
        }
        var alone = solo()
        alone.feed(.guestLost)
        #expect(alone.feed(.unstartable("no tap", starts: 3)) == [])
    }

    @Test func aDiskThatIsLostMeanwhileLeavesItToTheStandbyToo() {
        for event in [PrimaryMachine.Event.startable, .unstartable("no tap", starts: nil)] {
            var scene = dead(.component)
            scene.feed(.copyLost(true))
            let actions = scene.feed(event)
            #expect(actions.contains { if case .askTakeOver(_, guestStands: false) = $0 { true } else { false } })
            #expect(scene.machine.state == .fenced)
        }
    }

    @Test func theDialGoesDownOnlyWhereLeasesAreConfirmed() {
        var scene = PrimaryScene.paired(.manual(.runAlone))
        #expect(scene.feed(.setLevel(.component)).deeds == [])
        #expect(scene.machine.level == .system)
    }

    @Test func aGuestIsNotMovedWhileItRuns() {
        var scene = paired(.component)
        #expect(scene.feed(.switchOver).deeds == [])
        #expect(scene.machine.level == .component)
        #expect(!scene.machine.isSwitchingOver)
    }

    // MARK: - A disk that is lost here

    private func withoutDisk() -> PrimaryScene {
        var scene = paired(.component)
        scene.feed(.copyLost(true))
        return scene
    }

    /// I40.
    @Test func aGuestThatLivesByTheStandbysDiskDoesNotGoOnAlone() {
        var scene = withoutDisk()
        let actions = scene.feed(.standbyLost(scene.session))
        #expect(actions.request == nil && actions.contains(.hold) && scene.machine.state == .frozen)
        #expect(scene.feed(.goOn).deeds == [] && scene.machine.state == .frozen)
        scene.register = scene.takenOver()
        scene.feed(.peerRegister(scene.register.unsafelyUnwrapped))
        #expect(scene.settle().contains(.killGuest))
    }

    @Test func suchAGuestIsGivenUpByTheOperatorsWord() {
        var scene = withoutDisk()
        scene.feed(.standbyLost(scene.session))
        #expect(scene.feed(.giveUp).contains(.killGuest))
    }

    @Test func suchAGuestIsNotStartedHereAgain() {
        var scene = withoutDisk()
        let actions = scene.feed(.guestLost)
        #expect(actions.contains { if case .askTakeOver(_, guestStands: false) = $0 { true } else { false } })
        #expect(scene.machine.state == .fenced)
    }

    @Test func nobodyLetsItsStandbyGoBeforeTheDiskIsWhole() {
        var scene = withoutDisk()
        #expect(scene.feed(.unprotect).deeds == [])
        let told = scene.feed(.standbyLeaves(scene.session))
        #expect(told.deeds == [] && !scene.machine.isDismissing)
        guard case .report(let text)? = told.first else {
            Issue.record("nobody is told why")
            return
        }
        #expect(text.contains("stays it: the guest lives by its copy of a disk") && text.contains("rejoin"), "\(text)")
        scene.feed(.copyLost(false))
        #expect(scene.feed(.standbyLeaves(scene.session)).request?.new.mode == .solo)
    }

    /// Its disk cannot be mended: the standby starts it.
    @Test func suchAGuestCanBeGivenUpWhileItsStandbyIsThere() {
        var scene = withoutDisk()
        #expect(scene.feed(.giveUp).deeds == [.killGuest])
        let actions = scene.feed(.guestLost)
        #expect(actions.contains { if case .askTakeOver(_, guestStands: false) = $0 { true } else { false } })
        var whole = paired(.component)
        #expect(whole.feed(.giveUp).deeds == [])
    }

    /// I12, I40: once SOLO was asked for it may be granted at any time, so nothing may be done at the standby alone.
    @Test func whatIsLostWhileSoloIsAskedForIsNotDoneAtTheStandbyAlone() {
        var scene = paired(.component)
        #expect(scene.machine.mayLiveByStandby)
        let asked = scene.feed(.unprotect)
        #expect(asked.request?.new.mode == .solo && !scene.machine.mayLiveByStandby)
        scene.feed(.copyLost(true))
        // The guest would wait for ever if nobody went on: the register may name this host alone.
        let lost = scene.feed(.standbyLost(scene.session))
        #expect(scene.machine.state == .lonely && !lost.contains(.hold))
        let actions = scene.settle()
        #expect(actions.contains(.detach) && !scene.machine.isCopyLost)
        let told = actions.contains { if case .report(let text) = $0 { text.contains("mend the disk") } else { false } }
        #expect(told)
    }

    /// The standby is lost first: nothing was done there alone.
    @Test func aDiskThatIsLostWhileSoloIsWaitedForIsTheGuestsOwn() {
        var scene = paired(.component)
        #expect(scene.feed(.standbyLost(scene.session)).request?.new.mode == .solo)
        scene.feed(.copyLost(true))
        let actions = scene.settle()
        #expect(scene.machine.state == .solo && !scene.machine.isCopyLost)
        #expect(actions.contains(.detach))
        scene.feed(.copyLost(true))
        #expect(!scene.machine.isCopyLost, "alone it has the disk that it has")
    }

    /// I40: the standby is not told, so nothing is done there alone, and the guest has the disk that it has.
    @Test func aDiskThatIsLostWhileTheStandbyIsToGoIsAFaultLikeAny() {
        var scene = paired(.component)
        #expect(scene.machine.mayLiveByStandby)
        scene.feed(.unprotect)
        #expect(!scene.machine.mayLiveByStandby)
        scene.feed(.copyLost(true))
        _ = scene.settle()
        #expect(scene.register?.mode == .solo && !scene.machine.isCopyLost)
    }

    // MARK: - The standby

    private func won(_ level: Level, fences: Set<NodeName> = []) -> (StandbyScene, [StandbyMachine.Action]) {
        var scene = StandbyScene.holding(fences: fences)
        scene.feed(.applied(offer.session, Epoch(2)))
        var pair = scene.pair
        pair.level = level
        scene.feed(.registerTold(offer.session, pair))
        let asked = scene.feed(.linkLost(offer.session))
        var actions = asked
        if let request = asked.request { actions += scene.feed(.answered(request.nonce, .applied(request.new))) }
        return (scene, actions)
    }

    @Test func whoTakesOverWaitsForTheLeaseAndStartsFromTheDisks() {
        var (scene, actions) = won(.restart)
        #expect(actions.contains(.awaitLease(Term(6))))
        #expect(!actions.contains { if case .load = $0 { true } else { false } })
        #expect(scene.feed(.persisted(Term(6))) == [])
        #expect(scene.feed(.cleared) == [.startFromDisk])
        #expect(scene.feed(.resumed).contains { if case .becomePrimary = $0 { true } else { false } })
    }

    @Test func theWaitAloneStartsNothing() {
        var (scene, _) = won(.component)
        #expect(scene.feed(.cleared) == [], "the term is not durable")
        #expect(scene.feed(.persisted(Term(6))) == [.startFromDisk])
        (scene, _) = won(.system)
        #expect(scene.feed(.cleared) == [], "at level system nothing is waited for, and the state is loaded")
    }

    /// The level that counts is that of the register from which the term was won.
    @Test func theLevelIsThatOfTheRegisterThatWasWon() {
        var scene = StandbyScene.holding()
        scene.feed(.applied(offer.session, Epoch(2)))
        let request = scene.feed(.linkLost(offer.session)).request.unsafelyUnwrapped
        var turned = scene.pair
        (turned.term, turned.level) = (Term(6), .component)
        let again = scene.feed(.answered(request.nonce, .conflict(turned))).request.unsafelyUnwrapped
        #expect(scene.feed(.answered(again.nonce, .applied(again.new))).contains(.awaitLease(Term(7))))
        scene.feed(.loaded)
        scene.feed(.persisted(Term(7)))
        #expect(scene.feed(.cleared) == [.startFromDisk])
    }

    @Test func aConfirmedFencingEndsTheWait() {
        var (scene, actions) = won(.restart, fences: [alpha])
        let nonce = actions.fencing.unsafelyUnwrapped
        #expect(scene.feed(.peerFenced(Nonce(nonce.number ^ 1))) == [])
        #expect(scene.feed(.peerFenced(nonce)) == [.endWait])
        #expect(scene.feed(.peerFenced(nonce)) == [])
        (scene, actions) = won(.system, fences: [alpha])
        #expect(scene.feed(.peerFenced(actions.fencing.unsafelyUnwrapped)) == [])
    }

    /// The former owner's lease is over for good.
    @Test func aStartThatFailedIsTriedAgainByWord() {
        var (scene, _) = won(.restart)
        scene.feed(.persisted(Term(6)))
        scene.feed(.cleared)
        #expect(scene.feed(.resumeFailed("there is no room")) == [.report("there is no room")])
        #expect(scene.feed(.force) == [.startFromDisk])
    }

    /// Its register may never have been told: nothing is to be loaded where nothing waits for it.
    @Test(arguments: Level.allCases) func anImageThatIsFoundHasTheLevelOfItsOffer(level: Level) throws {
        let image = try #require(StandbyScene.holding().machine.image)
        var machine = StandbyMachine(
            node: image.identity.node, rule: .arbiter, record: LocalRecord(), seed: 1, found: image, level: level,
            staged: Epoch(1), applied: Epoch(1), isLoaded: false)
        #expect(machine.level == level)
        #expect(machine.handle(.started).contains(.load(from: Epoch(1))) == level.holdsOutput)
    }

    @Test func writesAreAnsweredForUntilTheTakeover() {
        var scene = StandbyScene.receiving()
        #expect(scene.machine.takesWrites)
        scene = StandbyScene.holding()
        #expect(scene.machine.takesWrites)
        scene.feed(.linkLost(offer.session))
        #expect(!scene.machine.takesWrites)
    }
}
