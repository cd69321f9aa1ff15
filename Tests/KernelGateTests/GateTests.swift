import Glibc
import KernelGate
import LinuxSystem
import Model
import Protocol
import TestBed
import Testing

private let web = VMName(unchecked: "web")
private let db = VMName(unchecked: "db")
private let millisecond: UInt64 = 1_000_000

private func after(_ milliseconds: UInt64) -> UInt64 { BootClock.now() + milliseconds * millisecond }

/// The gate in the kernel of this machine, before taps of a host of the bed; a listener on the guest LAN's far end.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct GateTests {
    @Test func namesOfDevices() throws {
        #expect(try GatedLink("tap0").name == "tap0")
        for name in ["", "a/b", "a b", "..", "sixteen-letters-"] {
            #expect(throws: KernelGateError.badDevice(name)) { try GatedLink(name) }
        }
    }

    @Test func theWaitLeavesRoomForAGateThatShutsLate() {
        // And 150 ms for frames that passed it and are still on their way.
        #expect(LeaseTiming.standard.margin >= KernelGate.overshoot + 150 * millisecond)
    }

    @Test func framesPassWhileRenewedAndStopWithAStoppedRenewer() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            try guest.send(1)
            #expect(listener.numbers() == [1], "without a gate everything passes")

            let renewer = try bed.a.spawn([Programs.path("romulus-gate-renewer"), "1000", "100", "web=tap1"])
            try await eventually("the gate's opening", within: .seconds(10)) {
                renewer.output.hasPrefix("open") ? true : nil
            }
            var next = MonotonicClock.now()
            for number in UInt64(100)..<400 {
                next += 7 * millisecond
                MonotonicClock.sleep(until: next)
                try guest.send(number, mac: UInt8(number % 3))
            }
            #expect(listener.numbers() == Array(100..<400), "300 frames in 21 renewals")

            // Each frame carries the time since the stop, in microseconds.
            let stop = MonotonicClock.now()
            renewer.kill(SIGSTOP)
            while MonotonicClock.now() - stop < 1500 * millisecond {
                try guest.send((MonotonicClock.now() - stop) / 1000, mac: 1)
                try guest.send((MonotonicClock.now() - stop) / 1000, mac: 2)
                usleep(2000)
            }
            let passed = listener.take()
            let last = passed.map(\.number).max() ?? 0
            // The last renewal came at most 100 ms before the stop, or more where this machine was slow.
            #expect((500_000...1_030_000).contains(last), "the last frame passed \(last) µs after the stop")
            #expect(Set(passed.map(\.mac)) == [1, 2])

            renewer.kill(SIGCONT)
            try await eventually("the refusal", within: .seconds(5)) {
                renewer.output.contains("web hadShut") ? true : nil
            }
            try guest.send(7)
            #expect(listener.numbers() == [], "a renewal does not open what had shut")
        }
    }

    /// An agent was killed after it had made the table, and before it had put a gate into it.
    @Test func anEmptyTableThatWasLeftGoesAway() async throws {
        try await Bed.with { bed in
            try bed.a.run(["nft", "add table netdev romulus"])
            let guests = try within(bed.a) { try KernelGate().guests }
            #expect(guests.isEmpty)
            #expect(try bed.a.run(["nft", "list tables"]).isEmpty)
        }
    }

    @Test func guestsAreIndependentAndRemovalLeavesNoTrace() async throws {
        try await Bed.with { bed in
            for tap in ["tap1", "tap2", "tap3", "tap4"] { try bed.a.addTap(tap) }
            let listener = try within(bed.client) { try Listener() }
            try within(bed.a) {
                let sides = try ["tap1", "tap2", "tap3", "tap4"].map { try GuestSide(tap: $0, heardBy: listener) }
                func passing() throws -> Set<UInt64> {
                    for (index, side) in sides.enumerated() { try side.send(UInt64(index + 1)) }
                    return Set(listener.numbers())
                }
                let gate = try KernelGate()
                #expect(gate.isProtected == nil && gate.guests.isEmpty)
                try gate.install(web, before: [GatedLink("tap1"), GatedLink("tap2")])
                try gate.install(db, before: [GatedLink("tap3")])
                #expect(try passing() == [4], "installed is shut; what has no gate passes")
                #expect(try gate.open(web, until: after(1000)))
                #expect(try gate.open(db, until: after(10_000)))
                #expect(try passing() == [1, 2, 3, 4])
                let left = try gate.remaining(web)
                #expect(left.count == 2 && left.values.allSatisfy { (1...1000).contains($0) })
                #expect(try gate.renew([web: after(1000), db: after(10_000)]) == [web: .renewed, db: .renewed])

                usleep(1_020_000)
                #expect(try passing() == [3, 4])
                #expect(try gate.remaining(web) == [:])
                #expect(try gate.renew([web: after(3000), db: after(10_000)]) == [web: .hadShut, db: .renewed])
                #expect(try passing() == [3, 4], "one that had shut does not keep the others from being renewed")
                #expect(try gate.renew([db: BootClock.now()]) == [db: .overdue])
                #expect(try !gate.open(web, until: BootClock.now()))

                #expect(try gate.open(web, until: after(5000)))
                #expect(try passing() == [1, 2, 3, 4])
                try gate.install(web, before: [GatedLink("tap2"), GatedLink("tap4")])
                #expect(try passing() == [1, 2, 3], "installing anew keeps what is open and shuts what is new")
                try gate.close(web)
                try gate.close(web)
                #expect(try passing() == [1, 3])
                try gate.remove(web)
                #expect(try passing() == [1, 2, 3, 4])
                #expect(throws: KernelGateError.unknownGuest("web")) { try gate.close(web) }
                try gate.close(db)
                try gate.remove(db)
                #expect(try passing() == [1, 2, 3, 4])
                #expect(gate.guests.isEmpty)
            }
            #expect(try bed.a.run(["nft", "list", "ruleset"]) == "")
        }
    }

    @Test func theEgressHookHoldsWhatLeavesThroughADevice() async throws {
        try await Bed.with { bed in
            let client = try #require(bed.client.lanAddress)
            let ping = ["busybox", "ping", "-c", "1", "-W", "1", client]
            try bed.a.run(ping)
            let gate = try within(bed.a) {
                let gate = try KernelGate()
                try gate.install(web, before: [GatedLink("lan0", hook: .egress)])
                return gate
            }
            #expect(throws: BedError.self) { try bed.a.run(ping) }
            try gate.open(web, until: after(20_000))
            try bed.a.run(ping)
        }
    }

    /// NFT_TABLE_F_PERSIST is of Linux 6.9.
    private static let kernelProtects: Bool = {
        let numbers = KernelAbilities.ofThisHost.release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 9)
    }()

    @Test(.enabled(if: kernelProtects, "the kernel is older than 6.9"))
    func noOtherProgramOpensTheGate() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            let program = try Programs.path("romulus-gate-renewer")
            let renewer = try bed.a.spawn([program, "300", "50", "web=tap1"])
            try await eventually("the gate's opening", within: .seconds(10)) {
                renewer.output.hasPrefix("open") ? true : nil
            }
            try bed.a.run(["nft", "flush", "ruleset"])
            #expect(throws: BedError.self) { try bed.a.run(["nft", "delete", "table", "netdev", "romulus"]) }
            let second = try bed.a.spawn([program, "300", "50", "db=tap1"])
            #expect(try await second.wait() == .code(1))
            #expect(second.output.contains("belongs to another running program"))

            try await renewer.killAndWait()
            usleep(400_000)
            try guest.send(1)
            #expect(listener.numbers() == [], "the gate outlives the agent")
            try within(bed.a) {
                let gate = try KernelGate()
                #expect(gate.guests == [web: [try GatedLink("tap1")]])
                #expect(gate.isProtected == true)
                try gate.install(web, before: [GatedLink("tap1")])
                #expect(try gate.open(web, until: after(2000)))
            }
            try guest.send(2)
            #expect(listener.numbers() == [2])
            // The last owner is gone, and its element with its time.
            usleep(2_050_000)
            try guest.send(3)
            #expect(listener.numbers() == [])
        }
    }

    @Test func whatWasFlushedOnAnOldKernelIsNoticed() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let gate = try within(bed.a) {
                let gate = try KernelGate(faults: .oldKernel)
                try gate.install(web, before: [GatedLink("tap1")])
                return gate
            }
            #expect(gate.isProtected == false)
            try gate.open(web, until: after(5000))
            try bed.a.run(["nft", "flush", "ruleset"])
            #expect(throws: KernelGateError.vanished) { try gate.renew([web: after(5000)]) }
            #expect(throws: KernelGateError.vanished) { try gate.open(web, until: after(5000)) }
        }
    }

    @Test func aRequestThatLayAboutIsRefused() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            try within(bed.a) {
                let gate = try KernelGate(faults: [.oldKernel, .stallsBeforeRequests])
                try gate.install(web, before: [GatedLink("tap1")])
                #expect(throws: KernelGateError.late) { try gate.open(web, until: after(3000)) }
                try guest.send(1)
                #expect(listener.numbers() == [])
                let prompt = try KernelGate(faults: .oldKernel)
                #expect(try prompt.open(web, until: after(1000)))
                #expect(throws: KernelGateError.late) { try gate.renew([web: after(3000)]) }
                usleep(1_020_000)
                try guest.send(2)
                #expect(listener.numbers() == [])
            }
        }
    }

    @Test func whatIsMissingIsSaid() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let program = try Programs.path("romulus-gate-renewer")
            let plain = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", program]
            let unprivileged = try bed.a.spawn(plain + ["300", "50", "web=tap1"])
            #expect(try await unprivileged.wait() == .code(1))
            #expect(unprivileged.output.contains("run it with CAP_NET_ADMIN"))
            let deviceless = try bed.a.spawn([program, "300", "50", "web=tap9"])
            #expect(try await deviceless.wait() == .code(1))
            #expect(deviceless.output.contains("there is no network device tap9"))
            #expect(try bed.a.run(["nft", "list", "ruleset"]) == "")
        }
    }

    @Test func aDeviceThatIsGoneDoesNotKeepTheGateFromBeingRemoved() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            try bed.a.addTap("tap2")
            let gate = try within(bed.a) {
                let gate = try KernelGate()
                try gate.install(web, before: [GatedLink("tap1")])
                try gate.install(db, before: [GatedLink("tap2")])
                return gate
            }
            #expect(try gate.open(web, until: after(5000)))
            try bed.a.run(["ip", "link", "delete", "tap1"])
            #expect(try gate.renew([web: after(5000)]) == [web: .renewed])
            try gate.remove(web)
            #expect(try !bed.a.run(["nft", "list", "ruleset"]).contains("tap1"))
            try gate.remove(db)
            #expect(try bed.a.run(["nft", "list", "ruleset"]) == "")
        }
    }

    /// The rules know devices by name, and a name can be changed while frames flow: the gate goes with the device, shut.
    @Test func aRenamedDeviceIsFollowedAndShut() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap1")
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap1", heardBy: listener) }
            let gate = try within(bed.a) {
                let gate = try KernelGate()
                try gate.install(web, before: [GatedLink("tap1")])
                return gate
            }
            for (from, to) in [("tap1", "other7"), ("other7", "tap1")] {
                #expect(try gate.open(web, until: after(60_000)))
                try guest.send(1)
                #expect(listener.numbers() == [1])
                try bed.a.run(["ip", "link", "set", from, "name", to])
                let renamed = MonotonicClock.now()
                let link = try GatedLink(to)
                while gate.guests[web] != [link], MonotonicClock.now() - renamed < 5_000 * millisecond { usleep(100) }
                print("a renamed device was followed after \((MonotonicClock.now() - renamed) / 1000) µs")
                #expect(gate.guests == [web: [link]])
                try guest.send(2)
                #expect(listener.numbers() == [], "\(to) is shut until a fresh confirmation")
                #expect(try gate.remaining(web) == [:])
                #expect(try gate.renew([web: after(60_000)]) == [web: .hadShut])
                let rules = try bed.a.run(["nft", "list", "ruleset"])
                #expect(!rules.contains("\"\(from)\""))
            }
            #expect(try gate.open(web, until: after(60_000)))
            try gate.remove(web)
            #expect(try bed.a.run(["nft", "list", "ruleset"]) == "")
        }
    }

    /// What a renewal costs; the limit is far above what is measured, which goes to the output.
    @Test func renewalsAreQuick() async throws {
        try await Bed.with { bed in
            let vms = (0..<20).map { VMName(unchecked: "vm\($0)") }
            for index in 0..<40 { try bed.a.addTap("tap\(index)") }
            let gate = try within(bed.a) {
                let gate = try KernelGate()
                for (index, vm) in vms.enumerated() {
                    try gate.install(vm, before: [GatedLink("tap\(2 * index)"), GatedLink("tap\(2 * index + 1)")])
                }
                return gate
            }
            for vm in vms { #expect(try gate.open(vm, until: after(30_000))) }
            for count in [1, 20] {
                var times: [UInt64] = []
                for _ in 0..<200 {
                    let began = MonotonicClock.now()
                    let until = after(30_000)
                    let results = try gate.renew(
                        Dictionary(uniqueKeysWithValues: vms.prefix(count).map { ($0, until) }))
                    times.append(MonotonicClock.now() - began)
                    #expect(results.count == count && results.values.allSatisfy { $0 == .renewed })
                }
                times.sort()
                print("renewal of \(count) guests: median \(times[100] / 1000) µs, 99th \(times[198] / 1000) µs")
                #expect(times[100] < 5 * millisecond)
            }
        }
    }
}
