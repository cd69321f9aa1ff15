import Foundation
import TestBed
import Testing

/// The bed itself: what it gives, and that nothing of it is left in whatever way its owner ends.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct BedTests {
    /// All that carries the name of a run.
    private func traces(of run: String) -> [String] {
        ["/run/netns", "/tmp", "/dev/shm"].flatMap { directory in
            ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [])
                .filter { $0 == run || $0.hasPrefix(run + "-") }.map { "\(directory)/\($0)" }
        }
    }

    private func isAlive(_ pid: pid_t) -> Bool { kill(pid, 0) == 0 }

    @Test func hostsReachEachOther() async throws {
        try await Bed.with { bed in
            for (host, address) in [
                (bed.a, bed.b.replicationAddress), (bed.b, bed.a.lanAddress), (bed.client, bed.a.lanAddress),
                (bed.client, bed.b.lanAddress),
            ] {
                try host.run(["busybox", "ping", "-c", "1", "-W", "2", try #require(address)])
            }
            // The client is on the guest LAN only: replication stays between the hosts.
            #expect(throws: BedError.self) {
                try bed.client.run(["busybox", "ping", "-c", "1", "-W", "1", "10.77.0.1"])
            }
        }
    }

    @Test func tearDownLeavesNothing() throws {
        let bed = try Bed()
        #expect(traces(of: bed.run).count >= 6)
        let child = try bed.a.spawn(["sleep", "1000"])
        let other = try bed.client.spawn(["sh", "-c", "setsid sleep 1000 & wait"])
        try bed.b.addTap("tap0")
        bed.tearDown()
        #expect(!isAlive(child.pid) && !isAlive(other.pid))
        #expect(bed.a.processes.isEmpty && bed.client.processes.isEmpty)
        #expect(traces(of: bed.run) == [])
        bed.tearDown()
    }

    @Test func aFailedBodyCarriesTheLogsAndLeavesNothing() async throws {
        var run = ""
        let error = await #expect(throws: BedError.self) {
            try await Bed.with { bed in
                run = bed.run
                let child = try bed.b.spawn(["sh", "-c", "echo the agent said this >&2; exit 7"], name: "agent")
                #expect(try await child.wait() == .code(7))
                throw BedError("the test failed.")
            }
        }
        #expect(error?.description.contains("the test failed.") == true)
        #expect(error?.description.contains("the agent said this") == true)
        #expect(!run.isEmpty && traces(of: run) == [])
    }

    @Test(arguments: [SIGKILL, SIGTERM, SIGINT])
    func anInterruptedOwnerLeavesNothing(signal: Int32) async throws {
        let logs = try TemporaryDirectory("interrupted")
        defer { logs.remove() }
        let owner = try Child([try Programs.path("romulus-bed-client"), "bed"], name: "owner", logs: logs.path)
        defer { owner.kill() }
        let run = try await eventually("a bed", within: .seconds(20)) { () -> String? in
            if let exit = owner.exit { throw BedError("the owner ended (\(exit)): \(owner.errors)") }
            return owner.output.split(separator: "\n").first { $0.hasSuffix(" is ready.") }
                .map { String($0.dropLast(" is ready.".count)) }
        }
        #expect(traces(of: run).count >= 6)
        let sleeper = try Child(
            ["nsenter", "--net=/run/netns/\(run)-a", "sleep", "1000"], name: "sleeper", logs: logs.path)
        owner.kill(signal)
        try await owner.wait()
        try await sleeper.wait()
        try await eventually("the end of the traces of \(run)", within: .seconds(20)) {
            traces(of: run).isEmpty ? true : nil
        }
    }

    @Test func theNextRunSweepsWhatADeadOneLeft() async throws {
        let logs = try TemporaryDirectory("sweep")
        defer { logs.remove() }
        let dead = try Child(["true"], name: "dead", logs: logs.path)
        try await dead.wait()
        let run = "rmls-\(dead.pid)-1-1"
        try Child.run(["ip", "netns", "add", "\(run)-a"])
        defer { Leftovers.remove(run: run) }
        try FileManager.default.createDirectory(atPath: "/tmp/\(run)", withIntermediateDirectories: true)
        let sleeper = try Child(
            ["nsenter", "--net=/run/netns/\(run)-a", "sleep", "1000"], name: "sleeper", logs: logs.path)
        try await eventually("the sleeper in its namespace", within: .seconds(5)) {
            try Child.run(["ip", "netns", "pids", "\(run)-a"]).contains("\(sleeper.pid)") ? true : nil
        }
        let living = try Bed()
        defer { living.tearDown() }
        #expect(traces(of: run) == [])
        #expect(try await sleeper.wait() == .signal(SIGKILL))
        Leftovers.sweep()
        #expect(traces(of: living.run).count >= 6, "a living run was swept")
    }

    @Test func killAllReachesProcessesOfProcesses() async throws {
        try await Bed.with { bed in
            let child = try bed.a.spawn(["sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & sleep 1000"])
            let spared = try bed.b.spawn(["sleep", "1000"])
            try await eventually("three sleepers", within: .seconds(5)) { bed.a.processes.count >= 4 ? true : nil }
            bed.a.killAll()
            #expect(bed.a.processes.isEmpty)
            #expect(try await child.wait() == .signal(SIGKILL))
            #expect(spared.isRunning)
        }
    }

    @Test func aPowerCutIsSilent() async throws {
        try await Bed.with { bed in
            let address = try #require(bed.a.replicationAddress)
            let server = try bed.a.spawn(["busybox", "nc", "-l", "-p", "900", "-e", "cat"])
            try await eventually("the listener", within: .seconds(5)) {
                try bed.a.run(["busybox", "netstat", "-ltn"]).contains(":900 ") ? true : nil
            }
            let client = try bed.b.spawn(["sh", "-c", "sleep 1000 | busybox nc \(address) 900"])
            try await eventually("the connection", within: .seconds(5)) {
                try bed.b.run(["busybox", "netstat", "-tn"]).contains("ESTABLISHED") ? true : nil
            }
            try bed.a.cutPower()
            #expect(try await server.wait() == .signal(SIGKILL))
            #expect(bed.a.processes.isEmpty)
            // A FIN would have ended the connection, and with it the client.
            #expect(try bed.b.run(["busybox", "netstat", "-tn"]).contains("ESTABLISHED"))
            #expect(client.isRunning)
        }
    }

    /// What its guest says is seen at the switch, and not where another host is joined to it.
    @Test func aGuestIsSeenWhoseHostIsCutOff() async throws {
        try await Bed.with { bed in
            try bed.a.addTap("tap0")
            let watches = try ["port-a", "port-b"].map { try FrameWatch($0, of: bed.lan, from: "52:54:00:00:00:01") }
            let listener = try within(bed.client) { try Listener() }
            let guest = try within(bed.a) { try GuestSide(tap: "tap0", heardBy: listener) }
            let witness = try #require(bed.witness.lanAddress)
            let ping = ["busybox", "ping", "-c", "1", "-W", "1", witness]
            try bed.a.run(ping)
            try bed.a.cutOff(from: [witness], true)
            #expect(throws: BedError.self) { try bed.a.run(ping) }
            let moment = bootNanoseconds()
            try guest.send(1)
            try await eventually("the frame at the switch", within: .seconds(5)) {
                watches[0].frames(from: moment) > 0 ? true : nil
            }
            #expect(watches[0].frames(from: 0, before: moment) > 0 && watches[1].frames(from: 0) == 0)
            try bed.a.cutOff(from: [witness], false)
            try bed.a.run(ping)
        }
    }

    @Test func aLimitedLinkIsSlower() async throws {
        try await Bed.with { bed in
            let address = try #require(bed.b.replicationAddress)
            try bed.a.limitRate("repl0", megabits: 8)
            // With a program of its own, or the end of this side's input would end the connection.
            let count = "\(bed.b.runtimeDirectory)/count"
            let sink = try bed.b.spawn(["busybox", "nc", "-l", "-p", "901", "-e", "sh", "-c", "wc -c > \(count)"])
            try await eventually("the listener", within: .seconds(5)) {
                try bed.b.run(["busybox", "netstat", "-ltn"]).contains(":901 ") ? true : nil
            }
            let began = ContinuousClock.now
            try bed.a.run(["sh", "-c", "head -c 1000000 /dev/zero | busybox nc \(address) 901"])
            try await sink.wait()
            let took = ContinuousClock.now - began
            #expect(try String(contentsOfFile: count, encoding: .utf8) == "1000000\n")
            #expect(took > .milliseconds(700), "1 MB at 8 Mbit/s takes 1 s, less the burst; took \(took)")
            try bed.a.limitRate("repl0", megabits: nil)
        }
    }

    /// One that had a copy of a test's socket would keep the connection open after the test closed it.
    @Test func aProgramGetsNoneOfOurDescriptors() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        let shown = try Child.run(["/bin/ls", "-l", "/proc/self/fd"])
        #expect(shown.contains(" 2 -> "))
        #expect(!shown.contains("pipe:"), "\(shown)")
    }

    @Test func aMissingProgramIsNamed() throws {
        let bed = try Bed()
        defer { bed.tearDown() }
        #expect(throws: BedError.self) { try bed.a.run(["no-such-program"]) }
        let error = #expect(throws: BedError.self) { try Programs.path("no-such-program") }
        #expect(error?.description.contains("make build") == true)
    }
}
