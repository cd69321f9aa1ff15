import Glibc
import KernelGate
import Leases
import LinuxSystem
import Literals
import Logging
import Model
import Protocol
import Registers
import Synchronization
import TestBed
import Testing

private let web = VMName(unchecked: "web")
private let db = VMName(unchecked: "db")
private let millisecond: UInt64 = 1_000_000

/// An arbiter that names alpha at term 1, or is away.
private final class Reader: Arbiter {
    private let isAway = Mutex(true)
    let name = "the test's arbiter"

    func be(away: Bool) { isAway.withLock { $0 = away } }

    func read(_ vm: VMName) async -> RegisterReading {
        if isAway.withLock({ $0 }) { return .unknown("\(name) is away") }
        return .value(
            Register(
                term: Term(1), owner: "alpha", mode: .solo, session: .none, standby: nil, lineage: Lineage(1),
                level: .restart))
    }

    func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        .unknown("\(name) changes nothing")
    }

    func close() async {}
}

/// How often the gate was said to stand open, and what else was said.
private final class Said: Sendable {
    private let state = Mutex((guarded: 0, sentences: [String]()))
    var guarded: Int { state.withLock { $0.guarded } }
    var sentences: [String] { state.withLock { $0.sentences } }

    var attendant: Leases.Attendant {
        var attendant = Leases.Attendant()
        attendant.guarded = { self.state.withLock { $0.guarded += 1 } }
        attendant.unguardable = { text in self.state.withLock { $0.sentences.append(text) } }
        attendant.report = { text in self.state.withLock { $0.sentences.append(text) } }
        return attendant
    }
}

/// A lease with the gate in the kernel of this machine, before taps of a host of the bed.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct LeasedGateTests {
    private static let timing = LeaseTiming(
        length: 1000 * millisecond, interval: 100 * millisecond, margin: 250 * millisecond, drift: 0)

    /// Their thread is born in the host's namespace, and so is the gate.
    private func leases(at host: BedHost, _ arbiter: Reader) throws -> Leases {
        try within(host) {
            try Leases(
                node: "alpha", arbiter: arbiter, timing: Self.timing,
                log: Logger(label: "leases") { _ in SwiftLogNoOpLogHandler() })
        }
    }

    private func guardOutput(
        of vm: VMName, before tap: String, by leases: Leases, _ arbiter: Reader
    ) async throws -> Said {
        let said = Said()
        leases.attend(vm, said.attendant)
        leases.handle(.won(Term(1), .goingOn), of: vm)
        leases.guardOutput(of: vm, before: [try GatedLink(tap)])
        arbiter.be(away: false)
        try await eventually("the opening of the gate of \(vm)", within: .seconds(20)) { said.guarded > 0 ? true : nil }
        #expect(said.sentences == [])
        return said
    }

    @Test func framesPassWhileTheLeaseIsConfirmed() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            let arbiter = Reader()
            let leases = try leases(at: bed.a, arbiter)
            leases.handle(.won(Term(1), .goingOn), of: web)
            leases.guardOutput(of: web, before: [try GatedLink("tap1")])
            usleep(200_000)
            try guest.send(1)
            #expect(listener.numbers() == [1], "as long as it cannot be opened it is not put there")

            let said = try await guardOutput(of: web, before: "tap1", by: leases, arbiter)
            #expect(try bed.a.run(["nft", "list", "ruleset"]).contains("ingress_tap1"))
            for number in UInt64(100)..<300 {
                try guest.send(number)
                usleep(10_000)
            }
            #expect(listener.numbers() == Array(100..<300), "longer than one lease")

            arbiter.be(away: true)
            let silence = MonotonicClock.now()
            while MonotonicClock.now() - silence < 1500 * millisecond {
                try guest.send((MonotonicClock.now() - silence) / 1000)
                usleep(2000)
            }
            let last = listener.numbers().max() ?? 0
            #expect((500_000...1_100_000).contains(last), "the last frame passed \(last) µs after the last answer")
            #expect(said.sentences.contains { $0.contains("its gate is shut") })

            arbiter.be(away: false)
            try await eventually("the gate's opening", within: .seconds(20)) {
                try guest.send(2)
                return listener.numbers().isEmpty ? nil : true
            }
            leases.unguard(web)
            try await eventually("the gate's removal", within: .seconds(20)) {
                try bed.a.run(["nft", "list", "ruleset"]) == "" ? true : nil
            }
            arbiter.be(away: true)
            usleep(1_300_000)
            try guest.send(3)
            #expect(listener.numbers() == [3])
            #expect(said.guarded == 1)
        }
    }

    @Test func aRestartedAgentTakesUpItsGuestsAndSweepsOthers() async throws {
        try await Bed.with { bed in
            for tap in ["tap1", "tap2"] { try bed.a.addTap(tap) }
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            let other = try within(bed.a) { try GuestSide(tap: "tap2", heardBy: listener) }
            let arbiter = Reader()
            var first: Leases? = try leases(at: bed.a, arbiter)
            if let first {
                _ = try await guardOutput(of: web, before: "tap1", by: first, arbiter)
                _ = try await guardOutput(of: db, before: "tap2", by: first, arbiter)
            }
            first = nil
            // The table is another's as long as that one's thread has not ended.
            try await eventually("the end of the first life", within: .seconds(20)) {
                (try? within(bed.a) { try KernelGate().guests.count }) == 2 ? true : nil
            }
            usleep(1_100_000)
            try guest.send(1)
            try other.send(2)
            #expect(listener.numbers() == [], "nobody renewed the leases")

            let second = try leases(at: bed.a, arbiter)
            second.sweep(keeping: [web])
            try await eventually("the sweep", within: .seconds(20)) {
                try other.send(3)
                return listener.numbers().isEmpty ? nil : true
            }
            try guest.send(4)
            #expect(listener.numbers() == [])
            let said = try await guardOutput(of: web, before: "tap1", by: second, arbiter)
            try guest.send(5)
            #expect(listener.numbers() == [5])
            second.handle(.ended, of: web)
            second.unguard(web)
            try await eventually("the gate's removal", within: .seconds(20)) {
                try bed.a.run(["nft", "list", "ruleset"]) == "" ? true : nil
            }
            #expect(said.sentences == [])
        }
    }

    @Test func whatStandsInTheWayIsSaid() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let leases = try leases(at: bed.a, Reader())
            try within(bed.a) {
                #expect(try leases.obstacle(to: [GatedLink("tap1")]) == nil)
                let obstacle = try #require(try leases.obstacle(to: [GatedLink("tap1"), GatedLink("tap9")]))
                #expect(obstacle.contains("there is no network device tap9"))
            }
            #expect(try bed.a.run(["nft", "list", "ruleset"]) == "")
        }
    }
}
