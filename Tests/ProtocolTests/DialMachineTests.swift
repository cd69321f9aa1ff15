import Model
import Protocol
import Testing

/// Carries out what a machine asks for, with the faults that a test names.
private struct Guest {
    var dial: DialMachine
    var failing: Set<DialMachine.Part> = []
    var deeds: [DialMachine.Action] = []

    init(at level: Level? = nil) { dial = DialMachine(at: level) }

    /// Until the machine wants nothing more; what it did, without its sentences.
    mutating func feed(_ event: DialMachine.Event) -> [String] {
        var waiting = dial.handle(event)
        var done: [String] = []
        while !waiting.isEmpty {
            let action = waiting.removeFirst()
            switch action {
            case .attach(let part):
                done.append("+\(part)")
                waiting += dial.handle(failing.contains(part) ? .attachFailed(part, "no") : .attached(part))
            case .detach(let part):
                done.append("-\(part)")
                waiting += dial.handle(failing.contains(part) ? .detachFailed(part, "no") : .detached(part))
            case .turn(let level):
                done.append("turn \(level?.rawValue ?? "none")")
                waiting += dial.handle(.turned)
            case .stands(let level): done.append("stands \(level?.rawValue ?? "none")")
            case .report: break
            }
        }
        return done
    }
}

@Suite struct DialMachineTests {
    @Test func upFromNothing() {
        var guest = Guest()
        #expect(guest.feed(.ask(.restart)) == ["+disks", "+gate", "turn restart", "stands restart"])
        #expect(guest.feed(.ask(.component)) == ["+served", "+detour", "turn component", "stands component"])
        #expect(
            guest.feed(.ask(.system)) == [
                "+memory", "+hold", "turn system", "-detour", "-gate", "-served", "stands system",
            ])
    }

    @Test func theGateStandsBeforeOutputIsLetGo() {
        var guest = Guest(at: .system)
        #expect(
            guest.feed(.ask(.component)) == [
                "+served", "+gate", "+detour", "turn component", "-hold", "-memory", "stands component",
            ])
        #expect(guest.feed(.ask(nil)) == ["turn none", "-detour", "-gate", "-served", "-disks", "stands none"])
    }

    @Test func theSameLevelIsNoChange() {
        var guest = Guest(at: .component)
        #expect(guest.feed(.ask(.component)) == ["stands component"])
    }

    @Test(arguments: [DialMachine.Part.memory, .hold])
    func aPartThatCannotBeAttachedLeavesTheLevel(part: DialMachine.Part) {
        var guest = Guest(at: .component)
        guest.failing = [part]
        let undone = part == .hold ? ["+memory", "+hold", "-memory"] : ["+memory"]
        #expect(guest.feed(.ask(.system)) == undone + ["stands component"])
        #expect(guest.dial.attached == Level.component.parts)
        #expect(guest.dial.reason == "\(part) cannot be attached: no")
        #expect(guest.dial.asked == .system && guest.dial.inForce == .component)
        guest.failing = []
        #expect(guest.feed(.tryAgain).last == "stands system")
        #expect(guest.dial.reason == nil)
    }

    /// What cannot be held is fallen from, and stays asked for.
    @Test func aBoundLowersTheLevelUntilItIsGone() {
        var guest = Guest(at: .system)
        let down = ["+gate", "turn restart", "-hold", "-memory", "stands restart"]
        let up = ["+memory", "+hold", "turn system", "-gate", "stands system"]
        #expect(guest.feed(.bounded(DialMachine.Bound(.restart, "slow"))) == down)
        #expect(guest.dial.asked == .system && guest.dial.inForce == .restart && guest.dial.reason == "slow")
        #expect(guest.feed(.tryAgain).isEmpty)
        #expect(guest.feed(.bounded(nil)) == up)
        #expect(guest.dial.reason == nil)
        #expect(guest.feed(.bounded(DialMachine.Bound(.restart, "slow"))) == down)
        #expect(guest.feed(.ask(.system)) == up, "the operator's word ends it")
    }

    @Test func aBoundThatIsAboveChangesNothing() {
        var guest = Guest(at: .restart)
        #expect(guest.feed(.bounded(DialMachine.Bound(.component, "slow"))) == ["stands restart"])
        #expect(guest.dial.reason == nil)
    }

    /// The climb is over before the part is there: what is copied for it is copied in vain.
    @Test func aPartThatIsNotWantedAnyMoreIsTold() {
        var dial = DialMachine(at: .restart, asked: .system, DialMachine.Bound(.restart, "slow"))
        #expect(dial.asked == .system && dial.reason == "slow")
        #expect(dial.handle(.bounded(nil)) == [.attach(.memory)])
        #expect(!dial.isNotWanted(.memory))
        #expect(dial.handle(.bounded(DialMachine.Bound(.restart, "slow"))).isEmpty)
        #expect(dial.isNotWanted(.memory) && !dial.isNotWanted(.hold))
        #expect(dial.handle(.attachFailed(.memory, "not wanted")) == [.stands(.restart)])
        #expect(dial.reason == "slow")
    }

    @Test func aTurnThatIsRefusedLeadsBack() {
        var dial = DialMachine(at: .restart)
        #expect(dial.handle(.ask(.component)) == [.attach(.served)])
        #expect(dial.handle(.attached(.served)) == [.attach(.detour)])
        #expect(dial.handle(.attached(.detour)) == [.turn(.component)])
        let sentence = "the register was not turned to component: another term"
        #expect(dial.handle(.turnRefused("another term")) == [.report(sentence), .detach(.detour)])
        #expect(dial.handle(.detached(.detour)) == [.detach(.served)])
        #expect(dial.handle(.detached(.served)) == [.stands(.restart)])
        #expect(dial.reason == sentence)
    }

    @Test func anOpenTurnIsWaitedFor() {
        var dial = DialMachine(at: .system)
        _ = dial.handle(.ask(.component))
        #expect(dial.handle(.attached(.served)) == [.attach(.gate)])
        #expect(dial.handle(.attached(.gate)) == [.attach(.detour)])
        #expect(dial.handle(.attached(.detour)) == [.turn(.component)])
        #expect(dial.handle(.ask(.system)) == [])
        #expect(dial.handle(.lost(.memory, "its QEMU ended")) == [.report("memory is lost: its QEMU ended")])
        #expect(dial.handle(.turned) == [.detach(.hold)])
    }

    @Test func aLostPartLeadsToTheHighestLevelWithoutIt() {
        var guest = Guest(at: .system)
        #expect(
            guest.feed(.lost(.memory, "gone")) == [
                "+served", "+gate", "+detour", "turn component", "-hold", "stands component",
            ])
        #expect(guest.dial.asked == .system && guest.dial.reason == "memory is lost: gone")
        #expect(guest.feed(.lost(.detour, "gone")) == ["turn restart", "-served", "stands restart"])
        #expect(guest.feed(.tryAgain).last == "stands system")
    }

    @Test func withoutDisksThereIsNoLevelToFallTo() {
        var guest = Guest(at: .restart)
        #expect(guest.feed(.lost(.disks, "the link is down")) == [])
        #expect(guest.dial.inForce == .restart)
        #expect(guest.feed(.tryAgain) == ["+disks", "stands restart"])
    }

    @Test func whatTheGuestLivesByIsNotTakenAway() {
        var guest = Guest(at: .component)
        #expect(guest.feed(.livesBy(.detour, "net0 is led through hostb")) == [])
        #expect(guest.feed(.ask(.restart)) == ["stands component"])
        #expect(guest.dial.reason == "the level stays component: detour is in use, net0 is led through hostb")
        #expect(guest.feed(.livesBy(.detour, nil)) == [])
        #expect(guest.feed(.tryAgain) == ["turn restart", "-detour", "-served", "stands restart"])
    }

    @Test func whatTheGuestLivesByIsSaidBeforeAnythingIsAttached() {
        var guest = Guest(at: .component)
        _ = guest.feed(.livesBy(.detour, "net0 is led through hostb"))
        #expect(guest.feed(.ask(.system)) == ["stands component"])
        #expect(guest.dial.attached == Level.component.parts)
    }

    @Test func whatTheGuestLivesBySinceTheTurnStaysUntilItDoesNot() {
        var dial = DialMachine(at: .component)
        #expect(dial.handle(.ask(.restart)) == [.turn(.restart)])
        #expect(dial.handle(.livesBy(.detour, "net0 is led through hostb")) == [])
        #expect(dial.handle(.turned) == [.detach(.served)])
        #expect(dial.handle(.detached(.served)) == [.stands(.restart)])
        #expect(dial.handle(.livesBy(.detour, nil)) == [.detach(.detour)])
    }

    @Test func aPartThatStaysAttachedIsTriedAgain() {
        var guest = Guest(at: .system)
        guest.failing = [.memory]
        #expect(guest.feed(.ask(.component)) == ["+served", "+gate", "+detour", "turn component", "-hold", "-memory"])
        #expect(guest.dial.inForce == .component && guest.dial.reason == "memory cannot be detached: no")
        guest.failing = []
        #expect(guest.feed(.tryAgain) == ["-memory", "stands component"])
    }

    @Test func lateWordsOfAStepThatIsOverCountForNothing() {
        var dial = DialMachine(at: .component)
        _ = dial.handle(.ask(.system))
        let before = dial
        let late: [DialMachine.Event] = [
            .attached(.hold), .attachFailed(.gate, ""), .detached(.memory), .detachFailed(.disks, ""), .turned,
            .turnRefused(""), .lost(.memory, ""), .lost(.gate, ""), .lost(.hold, ""),
        ]
        for event in late {
            #expect(dial.handle(event) == [])
            #expect(dial == before)
        }
    }
}

/// Every state that any order of events leads to.
@Suite struct DialMachineStatesTests {
    private static func events(_ dial: DialMachine) -> [DialMachine.Event] {
        let levels: [Level?] = [nil, .restart, .component, .system]
        var events: [DialMachine.Event] = levels.map { .ask($0) } + [.tryAgain]
        switch dial.step {
        case .attaching(let part)?: events += [.attached(part), .attachFailed(part, "")]
        case .detaching(let part)?: events += [.detached(part), .detachFailed(part, "")]
        case .turning?: events += [.turned, .turnRefused("")]
        case nil: break
        }
        events += dial.attached.map { .lost($0, "") }
        for part in [DialMachine.Part.disks, .detour] { events += [.livesBy(part, ""), .livesBy(part, nil)] }
        return events
    }

    private static func isSafe(_ dial: DialMachine, after actions: [DialMachine.Action], before: DialMachine) -> Bool {
        var names = [dial.inForce]
        if case .turning(let level)? = dial.step { names.append(level) }
        let isGuarded = names.allSatisfy { $0 == nil } || !dial.attached.isDisjoint(with: [.gate, .hold])
        let steps = actions.allSatisfy { action in
            switch action {
            case .turn(let level): level.parts.isSubset(of: dial.attached)
            case .detach(let part): !dial.inForce.parts.contains(part)
            case .stands(let level): level == dial.inForce
            case .attach, .report: true
            }
        }
        // One step at a time: a new one only where none is left of before.
        let begun = actions.filter { if case .stands = $0 { false } else { true } }.filter {
            if case .report = $0 { false } else { true }
        }
        return isGuarded && steps && begun.count <= 1
            && (begun.isEmpty || before.step != dial.step || before.step == nil)
    }

    /// With no more faults, and the operator asking again, what was asked for comes to stand, and nothing else is attached.
    private static func settles(_ dial: DialMachine) -> Bool {
        var dial = dial
        for part in [DialMachine.Part.disks, .detour] { _ = dial.handle(.livesBy(part, nil)) }
        for attempt in 0..<3 {
            for _ in 0..<20 {
                switch dial.step {
                case .attaching(let part)?: _ = dial.handle(.attached(part))
                case .detaching(let part)?: _ = dial.handle(.detached(part))
                case .turning?: _ = dial.handle(.turned)
                case nil: break
                }
            }
            if attempt < 2 { _ = dial.handle(.tryAgain) }
        }
        return dial.step == nil && dial.inForce == dial.asked && dial.attached == dial.asked.parts
    }

    /// Where every step fails, nothing is tried for ever.
    private static func rests(_ dial: DialMachine) -> Bool {
        var dial = dial
        for _ in 0..<20 {
            switch dial.step {
            case .attaching(let part)?: _ = dial.handle(.attachFailed(part, ""))
            case .detaching(let part)?: _ = dial.handle(.detachFailed(part, ""))
            case .turning?: _ = dial.handle(.turnRefused(""))
            case nil: return true
            }
        }
        return false
    }

    @Test func whatIsAttachedAlwaysSufficesAndEveryWishCanComeTrue() {
        var known: Set<DialMachine> = []
        var waiting = ([nil] + Level.allCases.map(Optional.some)).map { DialMachine(at: $0) }
        var unsafe: [String] = []
        while let dial = waiting.popLast() {
            guard known.insert(dial).inserted else { continue }
            if !Self.settles(dial) { unsafe.append("does not settle: \(dial)") }
            if !Self.rests(dial) { unsafe.append("does not rest: \(dial)") }
            for event in Self.events(dial) {
                var next = dial
                let actions = next.handle(event)
                if !Self.isSafe(next, after: actions, before: dial) { unsafe.append("\(event) on \(dial): \(actions)") }
                waiting.append(next)
            }
            if unsafe.count > 5 { break }
        }
        #expect(unsafe == [])
        #expect(known.count > 1000)
    }
}
