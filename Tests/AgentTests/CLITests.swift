import Foundation
import Model
import RomulusAPI
import Synchronization
import Testing

/// The built `romulus` against the real server: what it prints, what it exits with, what it asks for.
@Suite struct CLITests {
    static let web = VMName("web")!

    static func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONCoding.decode(type, from: Data(text.utf8))
    }

    @Test func listPrintsATableOrJSON() async throws {
        try await withServer { agent, socket, _ in
            let empty = try await RomulusProgram.run(["list"], socket: socket)
            #expect(empty.status == 0 && empty.out == "no VMs\n" && empty.err == "")
            agent.with { state in
                for name in ["web", "db"] { state.vms[VMName(name)!] = FakeAgent.vm(name) }
            }
            let table = try await RomulusProgram.run(["list"], socket: socket)
            let rows = table.out.split(separator: "\n")
            #expect(rows.count == 3 && rows[0].hasPrefix("NAME  ROLE") && rows[1].hasPrefix("db    primary  protected"))
            #expect(!table.out.contains("\u{1b}"))
            let json = try await RomulusProgram.run(["list", "--output", "json"], socket: socket)
            #expect(try Self.decode(VMList.self, json.out).vms == [FakeAgent.vm("db"), FakeAgent.vm("web")])
            // Options may stand before the verb.
            let before = try await RomulusProgram.run(["--socket", socket, "-o", "json", "-q", "list"])
            #expect(before.out == json.out && before.status == 0)
        }
    }

    @Test func domainsOfLibvirtAreShownAndPrepared() async throws {
        try await withServer { agent, socket, _ in
            func run(_ words: String...) async throws -> RomulusProgram.Outcome {
                try await RomulusProgram.run(["libvirt"] + words, socket: socket)
            }
            let rows = try await run("list").out.split(separator: "\n")
            #expect(rows.count == 2 && rows[0].hasPrefix("DOMAIN  RUNS") && rows[1].hasPrefix("web     yes"))
            #expect(rows[1].contains("from its next start on"))
            let json = try await run("list", "--output", "json")
            #expect(try Self.decode(LibvirtDomainList.self, json.out).domains.map(\.name) == ["web"])
            let prepared = try await run("prepare", "web")
            #expect(prepared.status == 0 && prepared.out.contains("shut it down and start it once"))
            #expect(try await run("prepare", "db", "--undo").status == 4)
            #expect(agent.asked.last == "libvirt prepare db undo=true")
            let refused = try await run("may-start", "web")
            #expect(refused.status == 5 && refused.out == "" && refused.err == "romulus: web was asked about\n")
            #expect(try await run("may-start", "db").out == "db was asked about\n")
            #expect(try await run("allow", "web").out == "the operator said so\n")
            #expect(agent.asked.last == "allow-start web")
        }
    }

    @Test func aVMIsProtectedByWhatItIsCalled() async throws {
        try await withServer { agent, socket, _ in
            let protected = try await RomulusProgram.run(["protect", "libvirt:web"], socket: socket)
            #expect(protected.status == 0)
            #expect(agent.asked.last?.hasPrefix("protect web qmp=- standby=- manager=libvirt ") == true)
            for word in ["xen:web", "libvirt:", ":web", "a b"] {
                let wrong = try await RomulusProgram.run(["protect", word], socket: socket)
                #expect(wrong.status == 64, "\(word)")
            }
        }
    }

    @Test func plannedChangesAreAskedForAndConfirmed() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms = [Self.web: FakeAgent.vm("web", .frozen)] }
            let moved = try await RomulusProgram.run(["switchover", "web", "--wait", "--timeout", "7"], socket: socket)
            #expect(moved.status == 0 && moved.out == "web was moved\n")
            let dialled = try await RomulusProgram.run(["dial", "web", "restart", "--wait"], socket: socket)
            #expect(dialled.status == 0 && dialled.out == "web is being turned to level restart\n")
            let there = try await RomulusProgram.run(["dial", "web", "system"], socket: socket)
            #expect(there.status == 0 && there.out == "web is at level system\n")
            #expect(try await RomulusProgram.run(["dial", "web", "high"], socket: socket).status == 64)
            for verb in ["go-on", "give-up"] {
                let unconfirmed = try await RomulusProgram.run([verb, "web"], socket: socket)
                #expect(unconfirmed.status == 5 && unconfirmed.err.contains("was not confirmed"))
                let confirmed = try await RomulusProgram.run([verb, "web", "--yes"], socket: socket)
                #expect(confirmed.status == 0 && confirmed.out == "web is frozen\n")
            }
            let on = try await RomulusProgram.run(["maintenance", "on", "--wait"], socket: socket)
            #expect(on.status == 0 && on.out.hasPrefix("alpha is empty"))
            #expect(on.out.contains("  web: runs here without a standby"))
            let off = try await RomulusProgram.run(["maintenance", "off", "--stay", "-o", "json"], socket: socket)
            #expect(try Self.decode(MaintenanceStatus.self, off.out).state == .off)
            #expect(try await RomulusProgram.run(["maintenance", "on", "--stay"], socket: socket).status == 64)
            #expect(
                agent.asked == [
                    "switchover web wait=7000", "dial web restart wait=30000", "dial web system wait=-",
                    "decide web go_on", "decide web give_up", "maintenance on stay=false",
                    "maintenance off stay=true",
                ])
        }
    }

    @Test(arguments: [
        (ProtectionState.protected, Int32(0)), (.syncing, 2), (.peerLost, 2), (.unprotected, 3), (.failed, 3),
    ])
    func checkTellsByTheExitStatus(state: ProtectionState, status: Int32) async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms = [Self.web: FakeAgent.vm("web", state), VMName("ok")!: FakeAgent.vm("ok")] }
            for arguments in [["status", "web", "--check"], ["status", "--check"]] {
                let outcome = try await RomulusProgram.run(arguments, socket: socket)
                #expect(outcome.status == status && outcome.err == "")
                #expect(outcome.out.contains(state.rawValue))
            }
            let good = try await RomulusProgram.run(["status", "ok", "--check"], socket: socket)
            #expect(good.status == 0)
            let plain = try await RomulusProgram.run(["status", "web", "-o", "json"], socket: socket)
            #expect(plain.status == 0)
            #expect(try Self.decode(VMStatus.self, plain.out).state == state)
        }
    }

    @Test func aWatchPrintsALineForEachLookUntilItEnds() async throws {
        try await withServer { agent, socket, _ in
            agent.with { state in
                state.script = [FakeAgent.vm("web", .syncing), FakeAgent.vm("web", .protected)]
                state.scriptEnds = true
            }
            let arguments = ["status", "web", "--watch", "--interval", "0.1"]
            let lines = try await RomulusProgram.run(arguments, socket: socket)
            #expect(lines.status == 4)
            #expect(lines.err == "romulus: there is no VM “web” here; see “romulus list”\n")
            let rows = lines.out.split(separator: "\n")
            #expect(rows.count == 2 && rows[0].contains("web  syncing") && rows[1].contains("web  protected"))

            agent.with { $0.script = [FakeAgent.vm("web", .syncing), FakeAgent.vm("web", .protected)] }
            let json = try await RomulusProgram.run(arguments + ["-o", "json"], socket: socket)
            let states = try json.out.split(separator: "\n").map { try Self.decode(VMStatus.self, String($0)).state }
            #expect(states == [.syncing, .protected])
        }
    }

    @Test func tunePassesOnWhatItWasGiven() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms = [Self.web: FakeAgent.vm("web")] }
            for (arguments, tuning) in [
                (["--target-latency", "5ms"], "an epoch of at most 20 ms, answers within 5.0 ms"),
                (["--target-latency", "2500us", "--epoch-ms", "9"], "an epoch of at most 9 ms, answers within 2.5 ms"),
                (["--target-overhead", "5%"], "an epoch of at most 20 ms, no more than 5.0 % of its work lost"),
                (["--no-target", "--pause-budget", "9"], "an epoch of at most 20 ms, a pause budget of 9 %"),
            ] {
                let tuned = try await RomulusProgram.run(["tune", "web"] + arguments, socket: socket)
                #expect(tuned.status == 0 && tuned.out == "web was tuned\n")
                #expect(agent.asked.last == "tune web: \(tuning)")
            }
            for wrong in [
                [], ["--target-latency", "soon"], ["--target-latency", "0.5"], ["--target-overhead", "0%"],
                ["--target-latency", "5ms", "--target-overhead", "5%"], ["--no-target", "--target-latency", "5"],
                ["--epoch-ms", "0"], ["--pause-budget", "91"],
            ] {
                #expect(try await RomulusProgram.run(["tune", "web"] + wrong, socket: socket).status == 64)
                guard !wrong.isEmpty, !wrong.contains("--no-target") else { continue }
                #expect(try await RomulusProgram.run(["protect", "web"] + wrong, socket: socket).status == 64)
            }
            #expect(agent.asked.count == 4)
            #expect(try await RomulusProgram.run(["tune", "db", "--no-target"], socket: socket).status == 4)
        }
    }

    @Test func protectPassesOnWhatItWasGiven() async throws {
        try await withServer { agent, socket, _ in
            let bare = try await RomulusProgram.run(["protect", "web"], socket: socket)
            #expect(bare.status == 0 && bare.out == "web is connecting\n")
            #expect(bare.err == "see “romulus status web --watch”\n")
            let full = try await RomulusProgram.run(
                [
                    "protect", "web", "--qmp", "/q", "--standby", "beta", "--level", "system", "--epoch-ms", "5",
                    "--output", "json", "--quiet",
                ], socket: socket)
            #expect(try Self.decode(VMStatus.self, full.out).state == .connecting)
            #expect(full.err == "")
            #expect(
                agent.asked == [
                    "protect web qmp=- standby=- level=- epoch=-",
                    "protect web qmp=/q standby=beta level=system epoch=5",
                ])
        }
    }

    static func syncing(_ done: UInt64) -> VMStatus {
        var status = FakeAgent.vm("web", .syncing)
        status.sync = SyncProgress(memoryDone: done << 20, memoryTotal: 100 << 20, diskDone: 0, diskTotal: 0)
        return status
    }

    @Test func waitingShowsTheFirstCopyAndEndsWhenItIsProtected() async throws {
        try await withServer { agent, socket, _ in
            let script = [Self.syncing(5), Self.syncing(42), FakeAgent.vm("web", .protected)]
            agent.with { $0.script = script }
            let lines = try await RomulusProgram.run(["protect", "web", "--wait"], socket: socket)
            #expect(lines.status == 0 && lines.out == "web is protected by beta\n")
            #expect(
                lines.err == """
                    web: connecting
                    web: syncing 5 %  memory 5.0 MiB of 100.0 MiB
                    web: syncing 42 %  memory 42.0 MiB of 100.0 MiB
                    web: protected

                    """)
            agent.with { $0.script = script }
            let quiet = try await RomulusProgram.run(["protect", "web", "--wait", "-q"], socket: socket)
            #expect(quiet.err == "" && quiet.status == 0)
            agent.with { $0.script = script }
            let terminal = try await RomulusProgram.runOnTerminal(["protect", "web", "--wait"], socket: socket)
            #expect(terminal.status == 0)
            #expect(terminal.screen.contains("\r\u{1b}[Kweb  [============                  ]  42 %  memory 42.0 MiB"))
            #expect(terminal.screen.hasSuffix("\r\nweb is protected by beta\r\n"))
        }
    }

    @Test func waitingEndsWhenItFailsOrTakesTooLong() async throws {
        try await withServer { agent, socket, _ in
            var failed = FakeAgent.vm("web", .failed)
            failed.lastError = "beta has no room in /dev/shm"
            agent.with { $0.script = [Self.syncing(1), failed] }
            let outcome = try await RomulusProgram.run(["protect", "web", "--wait", "-q"], socket: socket)
            #expect(outcome.status == 1 && outcome.out == "")
            #expect(outcome.err == "romulus: web is failed: beta has no room in /dev/shm\n")
            agent.with { $0.script = [Self.syncing(1)] }
            let late = try await RomulusProgram.run(
                ["protect", "web", "--wait", "-q", "--timeout", "1"], socket: socket)
            #expect(late.status == 6)
            #expect(late.err == "romulus: web is still syncing after 1.0 s; it goes on in the background\n")
        }
    }

    @Test(
        arguments: [
            (["unprotect", "nope"], 4, "there is no VM “nope” here; see “romulus list”"),
            (["status", "nope"], 4, "there is no VM “nope” here; see “romulus list”"),
            (["protect", "web", "--standby", "nobody"], 4, "there is no peer “nobody”; the peers are beta"),
            (["protect", "vhost"], 5, "net0 of vhost uses vhost: restart it with vhost=off"),
            (
                ["failover", "web"], 5,
                "failover of web was not confirmed and there is no terminal to ask at: give --yes"
            ),
        ] as [([String], Int32, String)])
    func whatTheAgentRefusesIsSaidAndTold(arguments: [String], status: Int32, words: String) async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            let outcome = try await RomulusProgram.run(arguments, socket: socket)
            #expect(outcome.status == status && outcome.out == "" && outcome.err == "romulus: \(words)\n")
            #expect(!agent.asked.contains { $0.hasPrefix("failover") })
        }
    }

    @Test func unprotectAndStandbyCommandPrintWhatTheyGot() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            #expect(try await RomulusProgram.run(["unprotect", "web"], socket: socket).out == "web is unprotected\n")
            let json = try await RomulusProgram.run(["unprotect", "web", "-o", "json"], socket: socket)
            #expect(try Self.decode(VMStatus.self, json.out).state == .unprotected)
            let command = "qemu-system-x86_64 \\\n    -incoming defer\n"
            #expect(try await RomulusProgram.run(["standby-command", "web"], socket: socket).out == command)
            #expect(try await RomulusProgram.run(["standby-command", "--qmp", "/q"], socket: socket).out == command)
            _ = try await RomulusProgram.run(["standby-command", "web", "--qmp", "/q"], socket: socket)
            #expect(agent.asked.last == "standby-command vm=web qmp=/q")
        }
    }

    @Test func checkListsEverything() async throws {
        try await withServer { agent, socket, _ in
            let fine = try await RomulusProgram.run(["check", "web", "--qmp", "/q"], socket: socket)
            #expect(fine.status == 0 && fine.out == "web can be protected\n" && fine.err == "")
            let bad = try await RomulusProgram.run(["check", "web", "--standby", "beta"], socket: socket)
            #expect(bad.status == 5)
            #expect(
                bad.out == """
                    web cannot be protected by beta
                    - alpha: NIC n0 has 2 queues
                    - beta: no image
                      note of beta: no tap

                    """)
            let json = try await RomulusProgram.run(["check", "web", "--standby", "beta", "--json"], socket: socket)
            #expect(json.status == 5)
            #expect(try Self.decode(CheckReport.self, json.out).problems.map(\.host) == ["alpha", "beta"])
            #expect(
                agent.asked == ["check web qmp=/q standby=-"]
                    + Array(repeating: "check web qmp=- standby=beta", count: 2))
        }
    }

    @Test func failoverAsksOnATerminalAndTakesYesOnly() async throws {
        try await withServer { agent, socket, _ in
            var standby = FakeAgent.vm("web", .peerLost)
            standby.role = .standby
            agent.with { [standby] state in state.vms[Self.web] = standby }
            let no = try await RomulusProgram.runOnTerminal(["failover", "web"], socket: socket, typed: "y\n")
            #expect(no.status == 5 && no.screen.contains("two copies of the guest will run. Type yes to go on: "))
            #expect(no.screen.contains("failover of web was not confirmed; nothing was done"))
            #expect(agent.asked.isEmpty)
            let yes = try await RomulusProgram.runOnTerminal(["failover", "web"], socket: socket, typed: "yes\n")
            #expect(yes.status == 0 && yes.screen.contains("web is failing_over"))
            let flag = try await RomulusProgram.run(["failover", "web", "--yes", "-q"], socket: socket)
            #expect(flag.status == 0 && flag.out == "web is failing_over\n" && flag.err == "")
            #expect(agent.asked == ["failover web force=true", "failover web force=true"])
        }
    }

    @Test func eventsAreLinesOrObjects() async throws {
        try await withServer { agent, socket, _ in
            agent.log.append(.state, vm: Self.web, term: Term(1), epoch: Epoch(3), "web is protected")
            agent.log.append(.session, "the link to beta is up")
            let lines = try await RomulusProgram.run(["events"], socket: socket).out.split(separator: "\n")
            #expect(lines.count == 2 && lines[0].hasSuffix("  web  state  term 1  epoch 3  web is protected"))
            #expect(lines[1].hasSuffix("  -  session  the link to beta is up"))
            let json = try await RomulusProgram.run(["events", "web", "-o", "json"], socket: socket).out
            #expect(try Self.decode(Event.self, json).message == "web is protected")
        }
    }

    @Test func eventsAreChosen() async throws {
        try await withServer { agent, socket, _ in
            for number in 1...1500 { agent.log.append(number % 3 == 0 ? .asked : .state, vm: Self.web, "n\(number)") }
            func shown(_ arguments: String...) async throws -> [String] {
                let outcome = try await RomulusProgram.run(["events"] + arguments, socket: socket)
                #expect(outcome.status == 0 && outcome.err == "")
                return outcome.out.split(separator: "\n").map { String($0.split(separator: " ").last ?? "") }
            }
            #expect(try await shown() == (1301...1500).map { "n\($0)" })
            #expect(try await shown("web", "--limit", "2") == ["n1499", "n1500"])
            #expect(try await shown("--kind", "asked", "--limit", "2") == ["n1497", "n1500"])
            #expect(try await shown("--kind", "asked", "--kind", "state", "--limit", "1") == ["n1500"])
            // More than one reply takes.
            #expect(try await shown("--since", "1h") == (1...1500).map { "n\($0)" })
            #expect(try await shown("--since", "2000-01-01", "--limit", "1") == ["n1500"])
            #expect(try await shown("--since", "2999-01-01") == [])
            #expect(try await shown("db") == [])
            let odd = try await RomulusProgram.run(["events", "--kind", "promotd"], socket: socket)
            #expect(odd.status == 0 && odd.out == "")
            #expect(odd.err.hasPrefix("no event is of the kind “promotd”; the kinds are request, detected, "))
        }
    }

    @Test func whyTellsInSentences() async throws {
        try await withServer { agent, socket, _ in
            agent.log.append(.detected, vm: Self.web, term: Term(3), "beta is silent")
            agent.log.append(.promoted, vm: Self.web, term: Term(4), epoch: Epoch(812), "web runs here")
            let told = try await RomulusProgram.run(["why", "web"], socket: socket)
            let lines = told.out.split(separator: "\n")
            #expect(told.status == 0 && told.err == "" && lines.count == 4)
            #expect(lines[0] == "web, as the journal of alpha tells it:")
            #expect(lines[1].hasPrefix("  1  Detected at 2") && lines[1].hasSuffix(" UTC (term 3): beta is silent"))
            #expect(lines[2].hasPrefix("  2  Promoted, "))
            #expect(lines[2].hasSuffix(" later (term 4, epoch 812): web runs here"))
            #expect(lines[3].hasPrefix("From the first step to the guest running here "))
            let json = try await RomulusProgram.run(["why", "web", "-o", "json"], socket: socket)
            #expect(try Self.decode(Explanation.self, json.out).steps.count == 2)
            let none = try await RomulusProgram.run(["why", "db"], socket: socket)
            #expect(none.status == 4 && none.err.contains("the journal of alpha has no decision about “db”"))
        }
    }

    @Test func followingEndsWithAWordWhenTheAgentGoes() async throws {
        let (started, start) = AsyncStream<Void>.makeStream()
        let task = try await withServer { agent, socket, _ in
            agent.log.append(.session, "up")
            agent.with { $0.onEvents = { start.yield() } }
            let task = Task { try await RomulusProgram.run(["events", "--follow"], socket: socket) }
            // The first question is for what there is, the second for what is to come.
            var looks = started.makeAsyncIterator()
            await looks.next()
            await looks.next()
            return task
        }
        let outcome = try await task.value
        #expect(outcome.status == 7 && outcome.err == "romulus: the agent is shutting down\n")
        #expect(outcome.out.hasSuffix("  -  session  up\n"))
    }

    @Test func versionWorksWithAndWithoutAnAgent() async throws {
        try await withServer { _, socket, _ in
            let both = try await RomulusProgram.run(["version"], socket: socket)
            #expect(both.out == "romulus \(Romulus.version)\nromulusd \(Romulus.version)\n" && both.status == 0)
        }
        let alone = try await RomulusProgram.run(["version", "--socket", "/nonexistent"])
        #expect(alone.out == "romulus \(Romulus.version)\nromulusd -\n" && alone.status == 0)
        #expect(try await RomulusProgram.run(["--version"]).out == "\(Romulus.version)\n")
    }

    @Test func noAgentAndASlowOneAreTold() async throws {
        let nobody = try await RomulusProgram.run(["list", "--socket", "/tmp/romulus-nobody-\(getpid())"])
        #expect(nobody.status == 7 && nobody.err.hasPrefix("romulus: no agent at /tmp/romulus-nobody"))
        try await withServer { agent, socket, _ in
            let (gate, open) = AsyncStream<Never>.makeStream()
            defer { open.finish() }
            agent.with { state in
                state.gate = gate
                state.vms[Self.web] = FakeAgent.vm("web")
            }
            let slow = try await RomulusProgram.run(["status", "web", "--timeout", "0.2"], socket: socket)
            #expect(slow.status == 6 && slow.err.contains("did not answer within"))
        }
    }

    @Test(arguments: [
        ["protect"], ["protect", "a b"], ["protect", "web", "--epoch-ms", "0"], ["protect", "web", "--level", "x"],
        ["status", "--watch", "--check"], ["status", "--interval", "0"], ["list", "--timeout", "0"],
        ["standby-command"], ["check"], ["frobnicate"], ["list", "--output", "xml"],
        ["events", "--since", "yesterday"], ["events", "--limit", "0"], ["events", "--kind", "a,b"], ["why"],
        ["pki", "issue", "-x"], ["pki", "issue", "a", "--tar", "--into", "/x"], ["--socket"],
    ])
    func wrongUsageIs64(arguments: [String]) async throws {
        let outcome = try await RomulusProgram.run(arguments)
        #expect(outcome.status == 64 && !outcome.err.isEmpty && outcome.out == "")
    }

    @Test func topLooksOnceOrDrawsUntilItIsQuit() async throws {
        try await withServer { agent, socket, _ in
            agent.with { state in
                for name in ["web", "db"] { state.vms[VMName(name)!] = FakeAgent.vm(name) }
            }
            let once = try await RomulusProgram.run(["top", "--once", "--json", "--interval", "0.1"], socket: socket)
            let look = try Self.decode(TopLook.self, once.out)
            #expect(
                once.status == 0 && look.node == "alpha" && look.vms.map(\.status.name.description) == ["db", "web"])
            #expect(look.epochs?.vm.description == "db")
            let text = try await RomulusProgram.run(["top", "web", "--once", "--interval", "0.1"], socket: socket)
            #expect(text.out.hasPrefix("alpha ") && text.out.contains("web had no epochs here"))
            let unknown = try await RomulusProgram.run(
                ["top", "nobody", "--once", "--interval", "0.1"], socket: socket)
            #expect(unknown.status == 4)
            let blind = try await RomulusProgram.run(["top"], socket: socket)
            #expect(blind.status == 64 && blind.err.contains("--once"))
            // The arrow chooses the next VM; what was there before comes back at the end.
            let shown = try await RomulusProgram.runOnTerminal(
                ["top", "--interval", "0.1"], socket: socket, typed: "\u{1b}[Bq")
            #expect(shown.status == 0)
            #expect(shown.screen.contains("\u{1b}[?1049h\u{1b}[?25l"))
            #expect(shown.screen.hasSuffix("\u{1b}[?25h\u{1b}[?1049l"))
            #expect(shown.screen.contains("epochs of db") && shown.screen.contains("epochs of web"))
        }
    }

    @Test func aForecastIsAskedForAndTold() async throws {
        try await withServer { agent, socket, _ in
            let table = try await RomulusProgram.run(["forecast", "web", "--qmp", "/q"], socket: socket)
            #expect(table.status == 0 && table.out.hasSuffix("\nNothing was watched.\n"))
            let json = try await RomulusProgram.run(
                [
                    "forecast", "web", "--seconds", "2.5", "--no-pause", "--standby", "beta", "--link-mbit", "100",
                    "--clients", "8", "--round-trips", "7", "--json",
                ],
                socket: socket)
            #expect(try Self.decode(Forecast.self, json.out).hasPauses == false)
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            let refused = try await RomulusProgram.run(["forecast", "web"], socket: socket)
            #expect(refused.status == 5 && refused.err.contains("romulus top web"))
            for wrong in [
                ["--seconds", "1"], ["--seconds", "301"], ["--link-mbit", "0"], ["--clients", "0"],
                ["--round-trips", "100001"],
            ] {
                #expect(try await RomulusProgram.run(["forecast", "web"] + wrong, socket: socket).status == 64)
            }
            #expect(
                agent.asked == [
                    "forecast web qmp=/q standby=- seconds=10.0 pause=- link=- clients=- round_trips=-",
                    "forecast web qmp=- standby=beta seconds=2.5 pause=false link=100.0 clients=8 round_trips=7",
                    "forecast web qmp=- standby=- seconds=10.0 pause=- link=- clients=- round_trips=-",
                ])
        }
    }

    @Test func aVerificationEndsWithWhatItFound() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            agent.with { $0.verification = FakeAgent.verification() }
            let equal = try await RomulusProgram.run(["verify", "web"], socket: socket)
            #expect(equal.status == 0 && equal.out.hasPrefix("web: equal: 990 of 1000 pages"), "\(equal)")
            agent.with { $0.verification = FakeAgent.verification(differing: 3) }
            let differing = try await RomulusProgram.run(["verify", "web", "--json"], socket: socket)
            let found = try Self.decode(Verification.self, differing.out)
            #expect(differing.status == 8 && found == FakeAgent.verification(differing: 3))
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web", .syncing) }
            let refused = try await RomulusProgram.run(["verify", "web"], socket: socket)
            #expect(refused.status == 5 && refused.err.contains("protect it first"))
            #expect(try await RomulusProgram.run(["verify", "nowhere"], socket: socket).status == 4)
        }
    }

    @Test func aVerificationEndsWithItsClient() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            let client = AgentClient(socket: socket)
            let task = Task { try await client.verify(VerifyRequest(vm: Self.web)) { _ in } }
            while !agent.asked.contains("verify web") { try await Task.sleep(for: .milliseconds(10)) }
            try await Task.sleep(for: .milliseconds(1500))
            #expect(!agent.asked.contains("called off"))
            task.cancel()
            let deadline = ContinuousClock.now + .seconds(20)
            while !agent.asked.contains("called off"), .now < deadline { try await Task.sleep(for: .milliseconds(10)) }
            #expect(agent.asked.contains("called off"))
        }
    }

    @Test func coloursAreForTerminalsThatWantThem() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            let shown = try await RomulusProgram.runOnTerminal(["list"], socket: socket)
            #expect(shown.screen.contains("\u{1b}[32mprotected\u{1b}[0m"))
            let plain = try await RomulusProgram.runOnTerminal(
                ["list"], socket: socket, environment: ["NO_COLOR": "1"])
            #expect(plain.screen.contains("protected") && !plain.screen.contains("\u{1b}"))
        }
    }

    /// Every verb and option that the program knows is in its manual, and the other way round.
    @Test func theManualHasEveryOption() async throws {
        let manual = try String(
            contentsOf: ConfigurationTests.root.appending(path: "docs/CLI.md"), encoding: .utf8)
        let dump = try await RomulusProgram.run(["--experimental-dump-help"])
        let tree = try #require(JSONSerialization.jsonObject(with: Data(dump.out.utf8)) as? [String: Any])
        var known: Set<String> = ["--generate-completion-script"]
        func visit(_ command: [String: Any], _ path: [String]) {
            if path.count > 0, path[0] != "help", (command["subcommands"] as? [Any] ?? []).isEmpty {
                #expect(manual.contains("    romulus \(path.joined(separator: " "))"), "no synopsis of \(path)")
            }
            for argument in command["arguments"] as? [[String: Any]] ?? [] {
                for name in argument["names"] as? [[String: String]] ?? [] where name["kind"] == "long" {
                    let option = "--" + (name["name"] ?? "")
                    known.insert(option)
                    #expect(manual.contains("`\(option)"), "the manual lacks \(option)")
                }
            }
            for sub in command["subcommands"] as? [[String: Any]] ?? [] {
                visit(sub, path + [sub["commandName"] as? String ?? ""])
            }
        }
        visit(try #require(tree["command"] as? [String: Any]), [])
        #expect(known.count > 15)
        for match in manual.matches(of: /--[a-z][a-z-]+/) {
            #expect(known.contains(String(match.0)), "the manual has \(match.0), which the program does not know")
        }
        for status in RomulusAPI.ExitStatus.allCases {
            #expect(manual.contains("\n| \(status.rawValue) |"), "the manual lacks exit status \(status.rawValue)")
        }
    }
}
