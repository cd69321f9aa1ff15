import Glibc
import GuestNetwork
import LinuxSystem
import Model
import TapDetour
import TestBed
import Testing

/// The agent's end of a detour: what it read, and how much of it it gives back.
private final class Agent: Sendable {
    private let descriptor: Int32

    init(_ detour: borrowing Detour) { descriptor = detour.descriptor }

    /// The next frame behind its header; nil when none comes for `milliseconds`.
    func take(milliseconds: Int32 = 60) -> [UInt8]? {
        var slot = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&slot, 1, milliseconds) == 1 else { return nil }
        var frame = [UInt8](repeating: 0, count: Detour.frameMax)
        let count = read(descriptor, &frame, frame.count)
        return count > 0 ? Array(frame[..<count]) : nil
    }

    func takeAll() -> [[UInt8]] {
        var frames: [[UInt8]] = []
        while let frame = take() { frames.append(frame) }
        return frames
    }

    func give(_ frame: [UInt8]) throws {
        guard write(descriptor, frame, frame.count) == frame.count else { throw BedError("cannot give back: \(errno)") }
    }
}

/// Detours in the kernel of this machine, around taps of a host of the bed; a listener on the guest LAN's far end.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct DetourTests {
    /// A guest that sends at `tap1` of host A, and who hears it on the guest LAN.
    private static func withGuest(_ body: (Bed, GuestSide, Listener) async throws -> Void) async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            try await body(bed, try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }, listener)
        }
    }

    @Test func outputIsHeldUntilItIsGivenBackInItsOrder() async throws {
        try await Self.withGuest { bed, guest, listener in
            let held = try within(bed.a) {
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                for number in UInt64(1)...50 { try guest.send(number) }
                let frames = agent.takeAll()
                #expect(listener.numbers() == [], "nothing leaves by itself")
                for frame in frames.prefix(20) { try agent.give(frame) }
                #expect(listener.numbers() == Array(1...20))
                for frame in frames.dropFirst(20) { try agent.give(frame) }
                #expect(listener.numbers() == Array(21...50))
                #expect(try detour.takenFrames() == 50)
                #expect(try detour.droppedFrames() == 0)
                try detour.remove()
                return frames.count
            }
            #expect(held == 50)
            try guest.send(51)
            #expect(listener.numbers() == [51], "without a detour everything passes")
        }
    }

    @Test func whatIsForTheGuestComesStraightIn() async throws {
        try await Self.withGuest { bed, guest, listener in
            try bed.a.addTap("tap2")
            let other = try within(bed.a) { try GuestSide(tap: "tap2", heardBy: listener) }
            while guest.receive() != nil {}
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                try other.send(7, mac: 2)
                #expect(guest.receive()?[14] == 7)
                #expect(Agent(detour).take() == nil, "and not into the agent")
                try detour.remove()
            }
        }
    }

    @Test func anAgentThatIsGoneLetsNothingOutAndTheNextTakesOver() async throws {
        try await Self.withGuest { bed, guest, listener in
            // Dropped, as the kernel drops it with a process.
            try within(bed.a) { _ = try Detour(of: "tap1") }
            for number in UInt64(1)...20 { try guest.send(number) }
            #expect(listener.numbers() == [])
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                try guest.send(21)
                #expect(listener.numbers() == [])
                try agent.give(try #require(agent.take()))
                #expect(listener.numbers() == [21])
            }
            try guest.send(22)
            #expect(listener.numbers() == [])
            #expect(try within(bed.a) { try Detour.removeLeftovers(of: "tap1") })
            #expect(try within(bed.a) { try Detour.removeLeftovers(of: "tap1") } == false)
            try guest.send(23)
            #expect(listener.numbers() == [23])
        }
    }

    @Test func aStartingAgentFreesTapsThatNobodyHasOpen() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            try bed.a.addTap("tap2")
            try bed.a.addTap("tap3")
            try within(bed.a) {
                let user = try GuestSide(tap: "tap2")
                for tap in ["tap1", "tap2", "tap3"] { _ = try Detour(of: tap) }
                try bed.a.setLink("tap3", up: false)
                #expect(Detour.sweep() == ["tap1"])
                for tap in ["tap2", "tap3"] { #expect(try Detour.removeLeftovers(of: tap)) }
                _ = user
            }
        }
    }

    @Test func theOtherHostsFramesLeaveAtTheTapAsTheGuestsOwn() async throws {
        try await Self.withGuest { bed, guest, listener in
            try within(bed.a) {
                let held: [UInt8]
                do {
                    let detour = try Detour(of: "tap1")
                    try guest.send(1)
                    held = try #require(Agent(detour).take())
                }
                // What that detour left is no hindrance.
                let outlet = try DetourOutlet(of: "tap1")
                #expect(held.withUnsafeBytes { outlet.send($0) })
                #expect(listener.numbers() == [1])
                try guest.send(2)
                #expect(listener.numbers() == [2])
            }
        }
    }

    @Test func tagsAndLongFramesComeThroughWhole() async throws {
        try await Self.withGuest { bed, guest, listener in
            let lan = (bed.lan, ["port-\(bed.a.name)", "port-\(bed.client.name)", "br-g"])
            for (host, links) in [(bed.a, ["tap1", "lan0", "br0"]), (bed.client, ["lan0"]), lan] {
                for link in links { try host.run(["ip", "link", "set", link, "mtu", "9000"]) }
            }
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                try guest.send(1, length: 8970)
                let long = try #require(agent.take())
                #expect(long.count == Detour.headerLength + 8970)
                try agent.give(long)
                let arrived = listener.frames()
                #expect(arrived.map(\.count) == [8970])
                #expect(
                    arrived.first.map { $0[22...].enumerated().allSatisfy { $1 == UInt8(truncatingIfNeeded: $0 + 22) } }
                        == true)
                try guest.send(2, tag: 42)
                let tagged = try #require(agent.take())
                #expect(Array(tagged[(Detour.headerLength + 12)...].prefix(4)) == [0x81, 0, 0, 42])
                try agent.give(tagged)
                #expect(listener.numbers() == [2])
                try detour.remove()
            }
        }
    }

    @Test func aSegmentThatTheNetworkIsToCutUpStaysOne() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1", kind: "vnet_hdr")
            try within(bed.a) {
                let guest = try GuestSide(tap: "tap1", hasHeader: true)
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                let payload = 30_000
                let header = TCPSegment.header
                let frame = TCPSegment.frame(payload)
                try guest.write(frame, header: header)
                let taken = try #require(agent.take(milliseconds: 1000))
                #expect(taken.count == Detour.headerLength + frame.count, "one frame, not twenty")
                #expect(Array(taken.prefix(10)) == header)
                #expect(Array(taken[(Detour.headerLength)...]) == frame)
                try agent.give(taken)
                try detour.remove()
            }
        }
    }

    @Test func allQueuesOfATapComeInOneOrder() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1", kind: "multi_queue")
            try within(bed.a) {
                let queues = try (0..<4).map { _ in try GuestSide(tap: "tap1", isOneOfSeveral: true) }
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                for number in 0..<40 { try queues[number % 4].send(UInt64(number)) }
                let numbers = agent.takeAll().map { Int($0[Detour.headerLength + 14]) }
                #expect(numbers == Array(0..<40))
                try detour.remove()
            }
        }
    }

    @Test func nothingIsLostOrOvertakenUnderLoad() async throws {
        try await Self.withGuest { bed, guest, listener in
            let count = UInt64(20_000)
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                let reader = try NamedThread.start("detour-reader") {
                    var given = 0
                    while given < Int(count), let frame = agent.take(milliseconds: 5000) {
                        try? agent.give(frame)
                        given += 1
                    }
                }
                for number in 1...count { try guest.send(number) }
                reader.join()
                #expect(try detour.droppedFrames() == 0)
                try detour.remove()
            }
            #expect(listener.numbers() == Array(1...count))
        }
    }

    /// The whole way of a protected guest's output.
    @Test func aGateHoldsByEpochsWhatTheDetourLeadsToIt() async throws {
        try await Self.withGuest { bed, guest, listener in
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                let gate = try OutputGate(nic: 0, device: detour.descriptor)
                try guest.send(1)
                #expect(listener.numbers() == [1], "not held yet")
                try gate.startHolding(next: Epoch(2))
                try guest.send(2)
                try guest.send(3)
                #expect(try gate.cut(Epoch(2)).frames == 2)
                try guest.send(4)
                #expect(listener.numbers() == [])
                #expect(gate.release(through: Epoch(2)).map(\.frames) == [2])
                #expect(listener.numbers() == [2, 3])
                _ = gate.releaseEverything()
                #expect(gate.waitUntilDelivered(deadline: MonotonicClock.now() + 1_000_000_000))
                #expect(listener.numbers() == [4])
                gate.close()
                try detour.remove()
            }
        }
    }

    @Test func framesThatAreNotReadInTimeAreCounted() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            try within(bed.a) {
                let guest = try GuestSide(tap: "tap1")
                let detour = try Detour(of: "tap1")
                let extra = 100
                for number in 0..<(Int(Detour.queueLength) + extra) { try guest.send(UInt64(number)) }
                #expect(try detour.droppedFrames() == UInt64(extra))
                try detour.remove()
            }
        }
    }

    @Test func whatThisHostSendsOnTheDeviceIsNotTheGuests() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            try within(bed.a) {
                let guest = try GuestSide(tap: "tap1")
                let detour = try Detour(of: "tap1")
                let agent = Agent(detour)
                try bed.a.run(["ip", "address", "add", "192.0.2.1/24", "dev", "rmldetour0"])
                _ = try? bed.a.run(["ping", "-c", "1", "-W", "1", "192.0.2.2"])
                #expect(agent.take() == nil)
                try guest.send(5)
                #expect(agent.take()?[Detour.headerLength + 14] == 5)
                try detour.remove()
            }
        }
    }

    /// A tap that two VMs are given by mistake.
    @Test func aTapThatIsHeldIsNobodyElses() async throws {
        try await Self.withGuest { bed, guest, listener in
            try within(bed.a) {
                let detour = try Detour(of: "tap1")
                #expect(throws: DetourError.busy("tap1")) { _ = try Detour(of: "tap1") }
                #expect(throws: DetourError.busy("tap1")) { _ = try DetourOutlet(of: "tap1") }
                #expect(throws: DetourError.busy("tap1")) { try Detour.removeLeftovers(of: "tap1") }
                #expect(Detour.sweep() == [])
                try guest.send(1)
                #expect(listener.numbers() == [], "it is held as before")
                try detour.remove()
                #expect(try Detour.removeLeftovers(of: "tap1") == false)
            }
        }
    }

    @Test func aTapThatIsNotThereIsNamed() async throws {
        #expect(throws: DetourError.noDevice("tap-none")) { _ = try Detour(of: "tap-none") }
        #expect(try Detour.removeLeftovers(of: "tap-none") == false)
    }
}
