import Agent
import Foundation
import Model
import RomulusAPI
import Synchronization
import Testing

/// Client and server, both real, over a unix socket.
@Suite struct APITests {
    static let web = VMName("web")!

    @Test func everyRequestReachesTheServiceAndComesBack() async throws {
        try await withServer { agent, socket, _ in
            let client = AgentClient(socket: socket)
            let health = try await client.health()
            #expect(health.node == "alpha" && health.peers == ["beta": true])
            #expect(try await client.list().isEmpty)
            let status = try await client.protect(
                ProtectRequest(vm: Self.web, qmp: "/q", standby: "beta", level: .system, epochMilliseconds: 10))
            #expect(status.state == .connecting)
            #expect(try await client.list() == [status])
            #expect(try await client.status(of: Self.web) == status)
            #expect(try await client.failover(FailoverRequest(vm: Self.web, force: true)).state == .failingOver)
            _ = try await client.tune(TuneRequest(vm: Self.web, targetLatency: 5))
            _ = try await client.switchover(SwitchoverRequest(vm: Self.web, waitMilliseconds: 5))
            _ = try await client.decide(DecisionRequest(vm: Self.web, decision: .giveUp))
            #expect(try await client.setMaintenance(MaintenanceRequest(isOn: true)).state == .empty)
            #expect(try await client.maintenance().state == .empty)
            #expect(try await client.unprotect(UnprotectRequest(vm: Self.web)).state == .unprotected)
            #expect(try await client.standbyCommand(StandbyCommandRequest(vm: Self.web)).contains("-incoming defer"))
            _ = try await client.standbyCommand(StandbyCommandRequest(qmp: "/run/a b&c=%+#é.qmp"))
            #expect(try await client.metrics() == "# HELP x X.\n# TYPE x gauge\nx 1\n")
            #expect(
                agent.asked == [
                    "protect web qmp=/q standby=beta level=system epoch=10", "failover web force=true",
                    "tune web: an epoch of at most 20 ms, answers within 5.0 ms", "switchover web wait=5",
                    "decide web give_up", "maintenance on stay=-", "unprotect web",
                    "standby-command vm=web qmp=-", "standby-command vm=- qmp=/run/a b&c=%+#é.qmp",
                ])
        }
    }

    @Test func errorsArriveAsTheyWereThrown() async throws {
        try await withServer { _, socket, _ in
            let client = AgentClient(socket: socket)
            let missing = APIError(.noSuchVM, "there is no VM “web” here; see “romulus list”")
            await #expect(throws: missing) { try await client.status(of: Self.web) }
            await #expect(throws: missing) { try await client.watch(Self.web) { _ in true } }
            await #expect(throws: APIError(.noSuchPeer, "there is no peer “nobody”; the peers are beta")) {
                try await client.protect(ProtectRequest(vm: Self.web, standby: "nobody"))
            }
            await #expect(throws: APIError(.badRequest, "“epoch_ms” must be from 1 to 10000, not 0")) {
                try await client.protect(ProtectRequest(vm: Self.web, epochMilliseconds: 0))
            }
        }
    }

    @Test(arguments: [
        ("GET", "/v1/nothing", "", 404, "there is nothing at GET /v1/nothing"),
        ("DELETE", "/v1/vms", "", 404, "there is nothing at DELETE /v1/vms"),
        ("GET", "/v1/vms/-x", "", 400, "“-x” is not a VM name"),
        ("GET", "/v1/vms/web/watch?interval_ms=1", "", 400, "“interval_ms” must be a whole number from 100 to 60000"),
        ("GET", "/v1/events?after=-1", "", 400, "“after” must be a whole number, not “-1”"),
        ("GET", "/v1/events?since=yesterday", "", 400, "“since” must be an ISO 8601 date such as"),
        ("GET", "/v1/vms/-x/why", "", 400, "“-x” is not a VM name"),
        ("GET", "/v1/events?limit=0", "", 400, "“limit” must be a whole number from 1 to 1000"),
        ("GET", "/v1/standby-command", "", 400, "give “vm” or “qmp” in the query"),
        ("POST", "/v1/vms/web/protect", "", 400, "the request's body is not what is expected: it is not valid JSON"),
        ("POST", "/v1/vms/web/tune", "{\"vm\":\"web\"}", 400, "say what is to change"),
        ("POST", "/v1/vms/web/protect", "{\"vm\":\"db\"}", 400, "the path is about “web” and the body about “db”"),
        ("POST", "/v1/vms/web/failover", "{\"vm\":\"web\"}", 400, "“force” is missing"),
        ("POST", "/v1/vms/web/protect", String(repeating: "x", count: 70_000), 400, "larger than 65536 bytes"),
    ])
    func badRequestsAreAnsweredInWords(
        method: String, target: String, body: String, status: Int, words: String
    ) async throws {
        try await withServer { _, socket, _ in
            let head = "\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            let request = head + "Content-Length: \(body.utf8.count)\r\n\r\n" + body
            let reply = try await onOwnThread { try rawExchange(socket, request) }
            #expect(reply.hasPrefix("HTTP/1.1 \(status) "), "got: \(reply.prefix(60))")
            let json = reply.components(separatedBy: "\r\n\r\n").dropFirst().joined()
            let error = try JSONCoding.decode(ErrorReply.self, from: Data(json.utf8)).error
            #expect(error.code == .badRequest && error.message.contains(words), "said: \(error.message)")
        }
    }

    @Test func aWatchShowsChangesUntilTheClientHasSeenEnough() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.script = [.connecting, .syncing, .protected].map { FakeAgent.vm("web", $0) } }
            let client = AgentClient(socket: socket)
            let seen = Mutex<[ProtectionState]>([])
            try await client.watch(Self.web, every: .milliseconds(100)) { status in
                seen.withLock { $0.append(status.state) }
                return status.state != .protected
            }
            #expect(seen.withLock { $0 } == [.connecting, .syncing, .protected])
        }
    }

    @Test func aWatchEndsWithTheErrorThatEndedIt() async throws {
        try await withServer { agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            await #expect(throws: APIError(.noSuchVM, "there is no VM “web” here; see “romulus list”")) {
                try await AgentClient(socket: socket).watch(Self.web, every: .milliseconds(100)) { _ in
                    agent.with { $0.vms = [:] }
                    return true
                }
            }
        }
    }

    @Test func eventsAreListedAndFollowed() async throws {
        try await withServer { agent, socket, _ in
            let client = AgentClient(socket: socket)
            agent.log.append(.asked, vm: Self.web, term: Term(1), epoch: Epoch(7), "who may run web?")
            agent.log.append(.session, vm: Self.web, "the link to beta is up")
            let all = try await client.events()
            #expect(all.map(\.id) == [1, 2] && all.map(\.kind) == [.asked, .session] && all.map(\.cause) == [nil, 1])
            #expect(all[0].term == 1 && all[0].epoch == 7 && all[0].message == "who may run web?")
            #expect(all[0].bootID == all[1].bootID && all[0].bootNanoseconds ?? 0 > 0)
            #expect(abs(all[0].time.timeIntervalSinceNow) < 3600)
            #expect(try await client.events(EventQuery(vm: Self.web)).map(\.id) == [1, 2])
            #expect(try await client.events(EventQuery(vm: VMName("db"))).isEmpty)
            #expect(try await client.events(EventQuery(kinds: [.session, .promoted])).map(\.id) == [2])
            #expect(try await client.events(EventQuery(since: Date(timeIntervalSinceNow: 3600))).isEmpty)
            #expect(try await client.events(EventQuery(since: Date(timeIntervalSinceNow: -3600))).count == 2)
            #expect(try await client.events(EventQuery(after: 1)).map(\.id) == [2])
            #expect(try await client.events(EventQuery(limit: 1)).map(\.id) == [1])
            #expect(try await client.events(EventQuery(limit: 1, newest: true)).map(\.id) == [2])
            #expect(try await client.events(EventQuery(after: 2), wait: .milliseconds(1)).isEmpty)

            let seen = Mutex<[UInt64]>([])
            try await client.follow(EventQuery(after: 1)) { event in
                seen.withLock { $0.append(event.id) }
                // Each event that was seen brings the next: it can only arrive if following goes on.
                if event.id < 5 { agent.log.append(.qemu, vm: Self.web, "reset") }
                return event.id < 5
            }
            #expect(seen.withLock { $0 } == [2, 3, 4, 5])
        }
    }

    @Test func whyTellsTheLastChain() async throws {
        try await withServer { agent, socket, _ in
            let client = AgentClient(socket: socket)
            agent.log.append(.state, vm: Self.web, "nothing was decided about it")
            await #expect(
                throws: APIError(
                    .noSuchVM, "the journal of alpha has no decision about “web”: “romulus events” shows what it has")
            ) {
                try await client.explanation(of: Self.web)
            }
            agent.log.append(.detected, vm: Self.web, "beta is silent")
            agent.log.append(.promoted, vm: Self.web, "web runs here")
            let explanation = try await client.explanation(of: Self.web)
            #expect(explanation.vm == Self.web && explanation.node == "alpha")
            #expect(explanation.steps.map(\.event.kind) == [.detected, .promoted])
            let after = explanation.steps.map(\.afterMilliseconds)
            #expect(after[0] == nil && after[1] ?? -1 >= 0)
        }
    }

    @Test func openStreamsEndWhenTheAgentShutsDown() async throws {
        let (started, start) = AsyncStream<Void>.makeStream()
        let follower = try await withServer { agent, socket, _ in
            agent.log.append(.session, "up")
            let task = Task {
                do {
                    try await AgentClient(socket: socket).follow { _ in
                        start.finish()
                        return true
                    }
                    return APIError(.failed, "ended without a word")
                } catch {
                    return error as? APIError ?? APIError(.failed, "\(error)")
                }
            }
            for await _ in started {}
            return task
        }
        #expect(await follower.value == APIError(.agentUnreachable, "the agent is shutting down"))
    }

    @Test func clientsThatHangUpAndAShutdownAreNothingToComplainAbout() async throws {
        let complaints = Complaints()
        try await withServer(metrics: HostPort(host: "127.0.0.1", port: 0), complaints: complaints) {
            agent, socket, _ in
            agent.with { $0.vms[Self.web] = FakeAgent.vm("web") }
            agent.log.append(.session, "up")
            try await AgentClient(socket: socket).watch(Self.web, every: .milliseconds(100)) { _ in false }
            try await AgentClient(socket: socket).follow { _ in false }
            // Another client's stream goes on until the shutdown.
            let (started, start) = AsyncStream<Never>.makeStream()
            Task {
                try? await AgentClient(socket: socket).follow { _ in
                    start.finish()
                    return true
                }
            }
            for await _ in started {}
        }
        #expect(complaints.lines == [])
    }

    @Test func anAgentThatDoesNotAnswerIsGivenUp() async throws {
        try await withServer { agent, socket, _ in
            let (gate, open) = AsyncStream<Never>.makeStream()
            defer { open.finish() }
            agent.with { $0.gate = gate }
            do {
                _ = try await AgentClient(socket: socket, timeout: .milliseconds(50)).health()
                Issue.record("answered")
            } catch let error as APIError {
                #expect(error.code == .timeout && error.message.contains("did not answer within"))
            }
        }
    }

    @Test func anAgentThatIsNotThereIsReported() async throws {
        let path = "/tmp/romulus-test-nothing-\(getpid()).sock"
        for (socket, words) in [
            (path, "the socket does not exist; start romulusd"), ("/dev/null/x", "the socket does not exist"),
            ("/" + String(repeating: "x", count: 200), "too long"),
        ] {
            do {
                _ = try await AgentClient(socket: socket).health()
                Issue.record("answered")
            } catch {
                #expect(error.code == .agentUnreachable && error.message.contains(words), "said: \(error)")
            }
        }
    }
}

/// Sends `request` as it is and gives everything that comes back.
func rawExchange(_ socket: String, _ request: String) throws -> String {
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(socket.utf8)) }
    let connected = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
    try #require(connected == 0)
    var bytes = Array(request.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        // The server may hang up on a body that it does not want.
        guard count > 0 else { break }
        bytes = bytes.dropFirst(count)
    }
    var reply: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(descriptor, &chunk, chunk.count)
        guard count > 0 else { break }
        reply += chunk[..<count]
    }
    return String(decoding: reply, as: UTF8.self)
}
