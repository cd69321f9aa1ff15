import Model
import Protocol
import Testing

/// What the two hosts of a guest see.
private enum Seen {
    static let well = UplinkSight(isThere: true, isConnected: true, missed: 0, sources: 0)
    static let unplugged = UplinkSight(isThere: true, isConnected: false, missed: 40, sources: 0)
    static let gone = UplinkSight(isThere: false, isConnected: false, missed: 40, sources: 0)
    static func cut(_ sources: UInt32, missed: UInt32 = 9) -> UplinkSight {
        UplinkSight(isThere: true, isConnected: true, missed: missed, sources: sources)
    }
    /// Without probes a carrier is all that is seen.
    static func blind(_ isConnected: Bool) -> UplinkSight {
        UplinkSight(isThere: true, isConnected: isConnected, missed: nil, sources: 0)
    }
}

private struct Scene {
    var machine = CarryMachine()
    var now: UInt64 = 1_000_000_000

    mutating func see(
        _ own: UplinkSight, _ other: UplinkSight?, mayLeave: Bool = true, after milliseconds: UInt64 = 0
    ) -> [CarryMachine.Action] {
        now += milliseconds * 1_000_000
        return machine.handle(.looked(own: own, other: other, mayLeave: mayLeave), at: now)
    }

    mutating func tell(_ event: CarryMachine.Event) -> [CarryMachine.Action] { machine.handle(event, at: now) }

    /// Unplugged, and carried.
    mutating func leave() {
        _ = see(Seen.unplugged, Seen.cut(0))
        #expect(see(Seen.unplugged, Seen.cut(0), after: 40) == [.lead(.noCarrier)])
        #expect(tell(.done) == [.arrived(.noCarrier)])
    }

    mutating func comeHome(after milliseconds: UInt64) {
        #expect(see(Seen.well, Seen.well) == [])
        #expect(see(Seen.well, Seen.well, after: milliseconds - 1) == [])
        #expect(see(Seen.well, Seen.well, after: 1) == [.callBack])
        #expect(tell(.done) == [.release])
    }
}

@Suite struct CarryMachineTests {
    @Test func aLostCarrierIsActedOnAfterAMoment() {
        var scene = Scene()
        #expect(scene.see(Seen.well, Seen.well) == [])
        #expect(scene.see(Seen.unplugged, Seen.well) == [])
        #expect(scene.see(Seen.well, Seen.well, after: 39) == [], "it was a moment only")
        #expect(scene.see(Seen.unplugged, Seen.well, after: 1) == [])
        #expect(scene.machine.due == scene.now + CarryMachine.debounce)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 39) == [])
        #expect(scene.see(Seen.unplugged, Seen.well, after: 1) == [.lead(.noCarrier)])
        #expect(scene.see(Seen.unplugged, Seen.well, after: 1) == [])
        #expect(scene.tell(.done) == [.arrived(.noCarrier)])
        scene.comeHome(after: 5000)
    }

    @Test func anUplinkThatIsGoneIsOneThatIsLost() {
        var scene = Scene()
        _ = scene.see(Seen.gone, Seen.well)
        #expect(scene.see(Seen.gone, Seen.well, after: 40) == [.lead(.noUplink)])
    }

    @Test(arguments: [nil, Seen.unplugged, Seen.gone])
    func nobodyIsCarriedToWhereNoNetworkIs(other: UplinkSight?) {
        var scene = Scene()
        for _ in 0..<10 { #expect(scene.see(Seen.unplugged, other, after: 1000) == []) }
    }

    @Test func theHostThatHearsMoreHasTheNetwork() {
        var scene = Scene()
        #expect(scene.see(Seen.cut(0, missed: 8), Seen.cut(3, missed: 8)) == [], "it is not certain yet")
        #expect(scene.see(Seen.cut(0), Seen.cut(3, missed: 8)) == [])
        #expect(scene.see(Seen.cut(0), Seen.well, after: 5000) == [], "one way only")
        #expect(scene.see(Seen.cut(3), Seen.cut(3), after: 5000) == [], "a tie")
        #expect(scene.see(Seen.cut(4), Seen.cut(3), after: 5000) == [])
        #expect(scene.see(Seen.cut(2), Seen.cut(3)) == [.lead(.segmented)])
        _ = scene.tell(.done)
        #expect(scene.see(Seen.cut(2), Seen.cut(3), after: 100_000) == [])
        // What it hears now decides where it is.
        #expect(scene.see(Seen.cut(5), Seen.cut(3)) == [])
        #expect(scene.see(Seen.cut(5), Seen.cut(3), after: 40) == [.callBack])
    }

    @Test func withoutProbesACarrierIsAllThatIsKnown() {
        for other in [Seen.blind(true), Seen.cut(9)] {
            var scene = Scene()
            for _ in 0..<10 { #expect(scene.see(Seen.blind(true), other, after: 1000) == []) }
            _ = scene.see(Seen.blind(false), other)
            #expect(scene.see(Seen.blind(false), other, after: 40) == [.lead(.noCarrier)])
            _ = scene.tell(.done)
            _ = scene.see(Seen.blind(true), other)
            #expect(scene.see(Seen.blind(true), other, after: 5000) == [.callBack])
        }
    }

    @Test func aNetworkThatComesAndGoesKeepsTheGuestAway() {
        var scene = Scene()
        var patience: UInt64 = 5000
        for _ in 0..<8 {
            scene.leave()
            scene.comeHome(after: patience)
            patience = min(patience * 2, 80_000)
        }
        // What is long ago counts no more.
        _ = scene.see(Seen.well, Seen.well, after: 600_000)
        scene.leave()
        scene.comeHome(after: 5000)
    }

    @Test func healthIsCountedInARow() {
        var scene = Scene()
        scene.leave()
        _ = scene.see(Seen.well, Seen.well)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 4999) == [])
        #expect(scene.see(Seen.well, Seen.well, after: 1) == [])
        #expect(scene.see(Seen.cut(0), Seen.cut(1), after: 4000) == [], "it is cut off again")
        scene.comeHome(after: 5000)
    }

    @Test func theGuestComesHomeAtOnceWhereTheOtherHostLosesTheNetworkToo() {
        var scene = Scene()
        scene.leave()
        #expect(scene.see(Seen.unplugged, Seen.unplugged, after: 9000) == [], "no host has it")
        #expect(scene.see(Seen.well, Seen.unplugged) == [])
        #expect(scene.see(Seen.well, Seen.unplugged, after: 40) == [.callBack])
    }

    @Test func aGuestThatMayNotLeaveStays() {
        var scene = Scene()
        for _ in 0..<5 { #expect(scene.see(Seen.unplugged, Seen.well, mayLeave: false, after: 1000) == []) }
        _ = scene.see(Seen.unplugged, Seen.well)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 40) == [.lead(.noCarrier)])
    }

    @Test func whatFailedIsTriedAgainLater() {
        var scene = Scene()
        _ = scene.see(Seen.unplugged, Seen.well)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 40) == [.lead(.noCarrier)])
        #expect(scene.tell(.failed) == [.release])
        _ = scene.see(Seen.unplugged, Seen.well)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 4999) == [])
        #expect(scene.see(Seen.unplugged, Seen.well, after: 1) == [.lead(.noCarrier)])
        #expect(scene.machine.settle == CarryMachine.settleMin, "it was never away")
    }

    @Test func anAnswerThatDoesNotComeIsWaitedForNoLonger() {
        var scene = Scene()
        _ = scene.see(Seen.unplugged, Seen.well)
        _ = scene.see(Seen.unplugged, Seen.well, after: 40)
        #expect(scene.see(Seen.unplugged, Seen.well, after: 2000) == [])
        #expect(scene.see(Seen.unplugged, Seen.well, after: 1) == [.callBack])
        #expect(scene.tell(.done) == [.release])
    }

    /// Carried out as a shell does: at most one network has the guest, whatever comes in whatever order; and when all is well it
    /// comes home.
    @Test func everyOrderOfEventsLeavesTheGuestAtOneNetwork() {
        let sights: [(UplinkSight, UplinkSight?)] = [
            (Seen.well, Seen.well), (Seen.unplugged, Seen.well), (Seen.gone, Seen.cut(1)), (Seen.cut(0), Seen.cut(2)),
            (Seen.cut(2), Seen.cut(0)), (Seen.well, Seen.unplugged), (Seen.unplugged, nil),
        ]
        let waits: [UInt64] = [1, 40, 5000]
        var events: [(CarryMachine.Event, UInt64)] = [(.done, 0), (.failed, 0)]
        for (own, other) in sights {
            for wait in waits {
                events.append((.looked(own: own, other: other, mayLeave: wait != 1), wait * 1_000_000))
            }
        }
        struct Node: Hashable {
            var machine = CarryMachine()
            var isLed = false
            var mayBeInside = false
            var now: UInt64 = 1_000_000_000
        }
        var level: Set<Node> = [Node()]
        var wrong: [String] = []
        for _ in 0..<4 {
            var next: Set<Node> = []
            for node in level {
                for (event, wait) in events {
                    var node = node
                    node.now += wait
                    if event == .done, node.machine.state == .returning { node.mayBeInside = false }
                    for action in node.machine.handle(event, at: node.now) {
                        switch action {
                        case .lead:
                            if node.isLed { wrong.append("led twice: \(node)") }
                            (node.isLed, node.mayBeInside) = (true, true)
                        case .release:
                            if !node.isLed { wrong.append("released at home: \(node)") }
                            // A port that failed to do what it was asked for is outside: it says so.
                            (node.isLed, node.mayBeInside) = (false, false)
                        case .callBack, .arrived: if !node.isLed { wrong.append("not led: \(node)") }
                        }
                    }
                    if (node.machine.state == .home) == node.isLed { wrong.append("\(node)") }
                    if node.mayBeInside, !node.isLed { wrong.append("at two networks: \(node)") }
                    next.insert(node)
                }
            }
            level = next
            if wrong.count > 5 { break }
        }
        for node in level {
            var (machine, now) = (node.machine, node.now)
            for _ in 0..<4 {
                for wait: UInt64 in [0, 80_000_000_000] {
                    now += wait
                    _ = machine.handle(.looked(own: Seen.well, other: Seen.well, mayLeave: true), at: now)
                }
                _ = machine.handle(.done, at: now)
            }
            if machine.state != .home { wrong.append("stays away: \(machine)") }
            if wrong.count > 5 { break }
        }
        #expect(wrong == [])
        #expect(level.count > 500)
    }
}
