import Glibc
import LinuxSystem
import Model
import TapDetour
import TestBed
import Testing

/// Passes frames on between a guest's tap at one host and a port at another, as two agents do over their link.
private final class Link: Sendable {
    private let tap: CarriedTap
    private let port: CarryPort

    init(_ tap: CarriedTap, _ port: CarryPort) {
        self.tap = tap
        self.port = port
    }

    /// Until nothing has come for 100 ms. Returns the frames of both ways behind their headers.
    @discardableResult
    func pass() -> (out: [[UInt8]], in: [[UInt8]]) {
        var passed: (out: [[UInt8]], in: [[UInt8]]) = ([], [])
        var slots = [tap.descriptor, port.descriptor].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while poll(&slots, 2, 100) > 0 {
            if let frame = Self.take(slots[0]) {
                passed.out.append(frame)
                _ = frame.withUnsafeBytes { port.send($0) }
            }
            if let frame = Self.take(slots[1]) {
                passed.in.append(frame)
                _ = frame.withUnsafeBytes { tap.send($0) }
            }
        }
        return passed
    }

    private static func take(_ slot: pollfd) -> [UInt8]? {
        var frame = [UInt8](repeating: 0, count: Detour.frameMax)
        guard slot.revents != 0 else { return nil }
        let count = read(slot.fd, &frame, frame.count)
        return count > 0 ? Array(frame[..<count]) : nil
    }
}

/// A guest at host A whose frames travel through host B.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct CarryTests {
    private static let mac: [UInt8] = [0x52, 0x54, 0, 0, 0, 1]

    private static func withCarried(
        kind: String = "", _ body: (Bed, GuestSide, Listener, CarriedTap, CarryPort, Link) async throws -> Void
    ) async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1", kind: kind)
            let hasHeader = kind == "vnet_hdr"
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", hasHeader: hasHeader) }
            while listener.numbers().isEmpty { try guest.send(0) }
            let tap = try within(bed.a) { try CarriedTap("tap1") }
            let port = try within(bed.b) { try CarryPort(for: "br0") }
            try within(bed.b) { try port.enter(announcing: Self.mac) }
            let link = Link(tap, port)
            link.pass()
            while guest.receive() != nil {}
            _ = listener.numbers()
            try await body(bed, guest, listener, tap, port, link)
        }
    }

    /// At which port of the LAN's switch the guest is.
    private static func place(_ bed: Bed) throws -> String {
        let table = try bed.lan.run(["bridge", "fdb", "show", "br", "br-g"])
        let line = table.split(separator: "\n").first { $0.hasPrefix("52:54:00:00:00:01") }
        return line.map { String($0.split(separator: " ")[2]) } ?? ""
    }

    @Test func framesTravelThroughTheOtherHostAndHomeAgain() async throws {
        try await Self.withCarried { bed, guest, listener, tap, port, link in
            #expect(try Self.place(bed) == "port-b", "the switch was told")
            for number in UInt64(1)...50 { try guest.send(number) }
            #expect(listener.numbers() == [], "its own bridge does not have them")
            #expect(link.pass().out.count == 50)
            #expect(listener.numbers() == Array(1...50))

            // To all, from the other host: it reaches the guest's own bridge too.
            try bed.b.addTap("tap2")
            let other = try within(bed.b) { try GuestSide(tap: "tap2", heardBy: listener) }
            link.pass()
            while guest.receive() != nil {}
            try other.send(7, mac: 2)
            link.pass()
            #expect(guest.receive()?[14] == 7)
            #expect(guest.receive() == nil, "and once only")

            try within(bed.b) { port.leave() }
            try within(bed.a) { try tap.release(announcing: Self.mac) }
            #expect(try Self.place(bed) == "port-a")
            _ = listener.numbers()
            try guest.send(51)
            #expect(listener.numbers() == [51])
            try other.send(8, mac: 2)
            #expect(guest.receive()?[14] == 8)
            #expect(guest.receive() == nil)
            #expect(try within(bed.a) { try Detour.removeLeftovers(of: "tap1") } == false)
        }
    }

    @Test func anAgentThatIsGoneLeavesTheGuestAlone() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            try within(bed.a) { _ = try CarriedTap("tap1") }
            try guest.send(1)
            #expect(listener.numbers() == [])
            #expect(try within(bed.a) { try Detour.removeLeftovers(of: "tap1") })
            try guest.send(2)
            #expect(listener.numbers() == [2])
        }
    }

    @Test func outsideOfTheBridgeThePortLetsNothingThrough() async throws {
        try await Self.withCarried { bed, guest, listener, tap, port, link in
            try within(bed.b) { port.leave() }
            try guest.send(1)
            link.pass()
            #expect(listener.numbers() == [] && !port.isCarrying)
            try within(bed.b) { try port.enter(announcing: Self.mac) }
            try guest.send(2)
            link.pass()
            #expect(listener.numbers() == [2])
        }
    }

    @Test func tagsGroupsAndLongFramesComeThroughWhole() async throws {
        try await Self.withCarried { bed, guest, listener, tap, port, link in
            let lan = (bed.lan, ["port-\(bed.a.name)", "port-\(bed.b.name)", "port-\(bed.client.name)", "br-g"])
            let hosts = [(bed.a, ["tap1", "lan0", "br0"]), (bed.b, ["lan0", "br0"]), (bed.client, ["lan0"]), lan]
            for (host, links) in hosts {
                for link in links { try host.run(["ip", "link", "set", link, "mtu", "9000"]) }
            }
            try guest.send(1, length: 8970)
            link.pass()
            let arrived = listener.frames()
            #expect(arrived.map(\.count) == [8970])
            try guest.send(2, tag: 42)
            let tagged = try #require(link.pass().out.first)
            #expect(Array(tagged[(Detour.headerLength + 12)...].prefix(4)) == [0x81, 0, 0, 42])
            #expect(listener.numbers() == [2])
            // A group of IPv6.
            var group: [UInt8] = [0x33, 0x33, 0, 0, 0, 1] + Self.mac + [0x88, 0xb5, 3]
            group += [UInt8](repeating: 0, count: 60 - group.count)
            try guest.write(group)
            link.pass()
            #expect(listener.frames().map { Array($0.prefix(6)) } == [Array(group.prefix(6))])
            // And the other way.
            try bed.b.addTap("tap2")
            let other = try within(bed.b) { try GuestSide(tap: "tap2", heardBy: listener) }
            link.pass()
            while guest.receive() != nil {}
            try other.send(4, mac: 2, tag: 42)
            link.pass()
            let tag = try #require(guest.receive())
            #expect(Array(tag[12..<16]) == [0x81, 0, 0, 42])
        }
    }

    /// One that the network, or the guest's card, is to cut up stays one in the agents.
    @Test func aLongSegmentStaysOneBothWays() async throws {
        try await Self.withCarried(kind: "vnet_hdr") { bed, guest, listener, tap, port, link in
            let segment = TCPSegment.frame(30_000)
            try guest.write(segment, header: TCPSegment.header)
            let out = try #require(link.pass().out.first)
            #expect(Array(out.prefix(10)) == TCPSegment.header)
            #expect(out.count == Detour.headerLength + segment.count)
            // What the other host hands to the guest.
            #expect(out.withUnsafeBytes { tap.send($0) })
            var heard = 0
            while let frame = guest.receive() { heard += max(0, frame.count - 54) }
            #expect(heard == 30_000)
        }
    }

    @Test func nothingIsLostOrOvertakenUnderLoad() async throws {
        try await Self.withCarried { bed, guest, listener, tap, port, link in
            let count = UInt64(10_000)
            let reader = try NamedThread.start("carry-link") { link.pass() }
            for number in 1...count { try guest.send(number) }
            reader.join()
            #expect(listener.numbers() == Array(1...count))
            #expect(try within(bed.a) { try tap.droppedFrames() } == 0)
        }
    }

    // MARK: - Uplinks

    @Test func aBridgeSaysWhatStandsInTheWay() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            #expect(try within(bed.a) { try Bridges.bridge(of: "tap1") } == "br0")
            func obstacle() throws -> String {
                try within(bed.a) {
                    do throws(CarryObstacle) {
                        return try Bridges.bridge(of: "tap1")
                    } catch {
                        return "\(error)"
                    }
                }
            }
            try bed.a.run(["ip", "link", "set", "lan0", "nomaster"])
            #expect(try obstacle().contains("bridge br0 has no uplink"))
            try bed.a.run(["ip", "link", "set", "tap1", "nomaster"])
            #expect(try obstacle().contains("is in no bridge"))
        }
    }

    /// Two hosts that hear each other, until the network between them is cut.
    @Test func probesAreHeardAndMissed() async throws {
        try await Bed.with { bed in
            let uplinks = [Uplinks(node: "hosta", probes: true), Uplinks(node: "hostb", probes: true)]
            let watches = [
                try within(bed.a) { try uplinks[0].watch("br0", peer: "hostb") {} },
                try within(bed.b) { try uplinks[1].watch("br0", peer: "hosta") {} },
            ]
            try await Task.sleep(for: .milliseconds(600))
            for watch in watches { #expect(watch.sight.isConnected && watch.sight.missed ?? 9 <= 3, "\(watch.sight)") }

            try bed.lan.run(["ip", "link", "set", "port-a", "nomaster"])
            // It asks all for addresses.
            let seeker = try bed.client.spawn([
                "bash", "-c", "while :; do echo x > /dev/udp/10.78.9.$((RANDOM % 250))/9; sleep 0.1; done",
            ])
            try await Task.sleep(for: .milliseconds(2500))
            #expect(watches.allSatisfy { $0.sight.isConnected })
            #expect(watches.allSatisfy { $0.sight.missed ?? 0 > 10 })
            #expect(watches[0].sight.sources == 0 && watches[1].sight.sources > 0, "\(watches.map(\.sight))")
            seeker.kill()

            try bed.lan.run(["ip", "link", "set", "port-a", "master", "br-g"])
            try await Task.sleep(for: .milliseconds(600))
            for watch in watches { #expect(watch.sight.missed ?? 9 <= 3, "\(watch.sight)") }
            try bed.lan.run(["ip", "link", "set", "port-a", "down"])
            try await Task.sleep(for: .milliseconds(300))
            #expect(!watches[0].sight.isConnected && watches[1].sight.isConnected)
        }
    }
}
