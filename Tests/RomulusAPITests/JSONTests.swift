import Foundation
import Model
import RomulusAPI
import Testing

@Suite struct JSONTests {
    static func text(_ value: some Encodable) throws -> String {
        String(decoding: try JSONCoding.encode(value), as: UTF8.self)
    }

    @Test func statusHasTheDocumentedForm() throws {
        #expect(
            try Self.text(Samples.protected()) == #"""
                {"epoch":41,"epoch_ms":20,"epochs_per_second":40.04,"last_epoch":{"acknowledge_ms":20,"copy_ms":0.3,\#
                "device_state_bytes":61000,"device_state_ms":1,"device_state_sent_bytes":250,"dirty_pages":300,\#
                "disk_bytes":4096,"encode_ms":0.4,"epoch":41,"held_bytes":1500,"held_frames":3,"held_ms":21,\#
                "link_bytes":110000,"memory_bytes":40000,"pause_ms":2.5,"precopied_pages":0,"release_ms":0.05,"resume_ms":0.25,\#
                "run_ms":22.5,"scan_ms":0.1,"stop_ms":0.5,"transfer_ms":1.5},"level":"system","link_bytes_per_second":123456.5,\#
                "name":"web","output_latency_ms":{"p50":22.5,"p95":31},"pause_ms":{"p50":2.5,"p95":4.25},\#
                "peer":"beta","pid":4711,"qmp":"/run/vm/web.qmp","role":"primary","since":"2026-01-01T12:00:00.250Z",\#
                "state":"protected","term":3}
                """#)
        #expect(
            try Self.text(Samples.syncing().sync) == #"""
                {"disk_done_bytes":67108864,"disk_total_bytes":268435456,"memory_done_bytes":67108864,\#
                "memory_total_bytes":268435456}
                """#)
    }

    @Test func valuesComeBackAsTheyWere() throws {
        for status in [Samples.protected(), Samples.syncing()] {
            #expect(try JSONCoding.decode(VMStatus.self, from: JSONCoding.encode(status)) == status)
        }
        let event = Event(
            id: 7, time: Samples.since, bootID: "b", bootNanoseconds: 5, vm: Samples.name("web"), epoch: 3, term: 1,
            kind: .promoted, message: "“hi”\n", cause: 6)
        #expect(try JSONCoding.decode(Event.self, from: JSONCoding.encode(event)) == event)
        let request = ProtectRequest(
            vm: Samples.name("web"), qmp: "/q", standby: "b", level: .system, epochMilliseconds: 5)
        #expect(try JSONCoding.decode(ProtectRequest.self, from: JSONCoding.encode(request)) == request)
        let health = Health(node: "alpha", started: Samples.since, peers: ["be_Ta": true])
        #expect(try JSONCoding.decode(Health.self, from: JSONCoding.encode(health)) == health)
    }

    @Test func aStatusWithoutAnotherHostHasAnEmptyNameThere() throws {
        var alone = Samples.protected()
        alone.peer = nil
        #expect(try Self.text(alone).contains(#","peer":"","#))
        #expect(try JSONCoding.decode(VMStatus.self, from: JSONCoding.encode(alone)) == alone)
        let wrong = try Self.text(alone).replacing(#""peer":"""#, with: #""peer":"-x""#)
        #expect(throws: DecodingError.self) { try JSONCoding.decode(VMStatus.self, from: Data(wrong.utf8)) }
    }

    @Test func datesAreReadWithAndWithoutMilliseconds() throws {
        func date(_ text: String) throws -> Date {
            let json = #"{"node":"a","version":"1","started":"\#(text)","peers":{}}"#
            return try JSONCoding.decode(Health.self, from: Data(json.utf8)).started
        }
        #expect(try date("2026-01-01T12:00:00.250Z") == Samples.since)
        #expect(try date("2026-01-01T12:00:00Z") == Samples.since.addingTimeInterval(-0.25))
        #expect(throws: DecodingError.self) { try date("yesterday") }
    }

    @Test func anErrorCodeOfANewerAgentIsReadAsFailed() throws {
        let reply = try JSONCoding.decode(
            ErrorReply.self, from: Data(#"{"error":{"code":"moon_phase","message":"wait"}}"#.utf8))
        #expect(reply.error == APIError(.failed, "wait"))
        #expect(
            try Self.text(ErrorReply(APIError(.noSuchVM, "m"))) == #"{"error":{"code":"no_such_vm","message":"m"}}"#)
    }

    @Test(arguments: [
        (#"{"qmp":"/x"}"#, "“vm” is missing"),
        (#"{"vm":"-x"}"#, "“vm”: “-x” is not a VM name"),
        (#"{"vm":"web","standby":"b c"}"#, "“standby”: “b c” is not a node name"),
        (#"{"vm":"web","epoch_ms":"soon"}"#, "“epoch_ms” has the wrong type"),
        (#"{"vm":"web","#, "it is not valid JSON"),
    ])
    func whatIsWrongWithABodyIsSaidInWords(json: String, words: String) throws {
        do {
            _ = try JSONCoding.decode(ProtectRequest.self, from: Data(json.utf8))
            Issue.record("was accepted")
        } catch {
            #expect(JSONCoding.explain(error).contains(words), "said: \(JSONCoding.explain(error))")
        }
    }

    /// The manual's schema block names every key that is sent, and is JSON itself.
    @Test func theSchemaInTheManualCoversWhatIsSent() throws {
        let manual = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "docs/API.md")
        let text = try String(contentsOf: manual, encoding: .utf8)
        let block = try #require(text.firstMatch(of: /```json schema\n([\s\S]*?)```/)).1
        let schema = try #require(JSONSerialization.jsonObject(with: Data(block.utf8)) as? [String: Any])
        let definitions = try #require(schema["$defs"] as? [String: [String: Any]])

        func check(_ value: some Encodable, _ name: String) throws {
            let definition = try #require(definitions[name], "no definition of \(name)")
            let properties = try #require(definition["properties"] as? [String: Any])
            let object = try #require(
                JSONSerialization.jsonObject(with: JSONCoding.encode(value)) as? [String: Any])
            for key in object.keys { #expect(properties[key] != nil, "\(name).\(key) is not in the schema") }
            for key in definition["required"] as? [String] ?? [] {
                #expect(object[key] != nil, "\(name).\(key) is required by the schema and not sent")
            }
            for (key, sent) in object where (properties[key] as? [String: Any])?["$ref"] == nil {
                let type = (properties[key] as? [String: Any])?["type"] as? String
                let found = sent is String ? "string" : sent is [Any] ? "array" : sent is [String: Any] ? "object" : ""
                if !found.isEmpty { #expect(type == found, "\(name).\(key) is a \(found)") }
            }
        }
        var status = Samples.protected()
        status.sync = Samples.syncing().sync
        status.lastError = "x"
        status.peerReport = PeerReport(link: .stalled, secondPath: true, silenceBorne: 200)
        status.arbiter = ArbiterReport(name: "w", isUp: false, lastAnswer: 3100, reason: "r")
        try check(status.arbiter, "ArbiterReport")
        status.model = Samples.prediction
        status.dirtyPages = Percentiles(p50: 1, p95: 2)
        status.heldBytes = 1
        status.processorSeconds = 1
        try check(Samples.prediction, "EpochPrediction")
        try check(Samples.model, "ModelReport")
        try check(Samples.epochs(1), "EpochList")
        try check(Samples.epochs(1).epochs[0], "EpochRow")
        try check(
            ForecastRequest(
                vm: Samples.name("a"), qmp: "/q", standby: "b", seconds: 2, pause: false, linkMegabits: 1, clients: 2,
                roundTrips: 3),
            "ForecastRequest")
        try check(Samples.forecast(), "Forecast")
        try check(Samples.forecast().epochs[0], "ForecastEpoch")
        try check(Samples.forecast().requests, "ForecastRequests")
        try check(ForecastSpan(least: 1, most: 2), "ForecastSpan")
        try check(ForecastLink(peer: "b", roundTrip: 1, error: "x"), "ForecastLink")
        try check(status.peerReport, "PeerReport")
        status.target = TargetReport(latency: 5, reached: 4, isHeld: true)
        status.desired = DesiredReport(
            protect: .always, reason: "r", nextTry: .now, failures: 2, elsewhere: "b")
        status.identity = .made()
        status.coldBoot = ColdBootReport(epoch: 812, at: .now)
        let carried = CarriedReport(nic: "net0", bridge: "br0", reason: "r", since: .now)
        status.carried = [carried]
        try check(carried, "CarriedReport")
        try check(status, "VMStatus")
        try check(status.coldBoot, "ColdBootReport")
        try check(status.identity, "VMIdentity")
        try check(status.desired, "DesiredReport")
        try check(TargetReport(overhead: 5, reached: 9, isHeld: false, reason: "r"), "TargetReport")
        try check(Samples.syncing().sync, "SyncProgress")
        try check(EpochReport(Samples.timings()), "EpochReport")
        try check(Percentiles(p50: 1, p95: 2), "Percentiles")
        try check(VMList([]), "VMList")
        try check(EventList([]), "EventList")
        try check(
            Event(
                id: 1, time: .now, bootID: "b", bootNanoseconds: 1, vm: Samples.name("a"), epoch: 1, term: 1,
                kind: .state, message: "", cause: 1), "Event")
        let explanation = Samples.explanation(sameBoot: false)
        try check(explanation, "Explanation")
        try check(explanation.steps[1], "ExplanationStep")
        try check(Health(node: "a", started: .now, peers: [:], processorSeconds: 1), "Health")
        try check(ErrorReply(APIError(.failed, "")), "ErrorReply")
        try check(StandbyCommandReply(""), "StandbyCommandReply")
        try check(
            ProtectRequest(
                vm: Samples.name("a"), qmp: "/q", standby: "b", level: .system, epochMilliseconds: 1, targetLatency: 5,
                targetOverhead: 5, pauseBudget: 5, claim: true),
            "ProtectRequest")
        try check(
            TuneRequest(
                vm: Samples.name("a"), epochMilliseconds: 1, targetLatency: 5, targetOverhead: 5, pauseBudget: 5,
                noTarget: true), "TuneRequest")
        try check(VerifyRequest(vm: Samples.name("a")), "VerifyRequest")
        try check(Samples.verification(), "Verification")
        try check(Samples.verification().differences[0], "VerificationDifference")
        try check(UnprotectRequest(vm: Samples.name("a")), "UnprotectRequest")
        try check(FailoverRequest(vm: Samples.name("a"), force: true), "FailoverRequest")
        try check(SwitchoverRequest(vm: Samples.name("a"), waitMilliseconds: 1), "SwitchoverRequest")
        try check(DecisionRequest(vm: Samples.name("a"), decision: .goOn), "DecisionRequest")
        try check(MaintenanceRequest(isOn: true, stay: false), "MaintenanceRequest")
        let left = MaintenanceStatus.VM(name: Samples.name("a"), stays: true, reason: "")
        try check(
            MaintenanceStatus(node: "a", state: .emptying, vms: [left], moved: [Samples.name("a")]), "MaintenanceStatus"
        )
        try check(left, "MaintenanceVM")

        for kind in EventKind.known {
            #expect(
                text.contains("| `\(kind)` | \(kind.isDecision ? "yes " : "")|"), "the table of kinds lacks \(kind)")
        }

        func words(_ name: String, _ key: String) -> [String] {
            let properties = definitions[name]?["properties"] as? [String: [String: Any]]
            return (properties?[key]?["enum"] as? [String] ?? []).sorted()
        }
        #expect(words("VMStatus", "state") == ProtectionState.allCases.map(\.rawValue).sorted())
        #expect(words("MaintenanceStatus", "state") == MaintenanceStatus.State.allCases.map(\.rawValue).sorted())
        #expect(words("DecisionRequest", "decision") == DecisionRequest.Decision.allCases.map(\.rawValue).sorted())
        #expect(words("PeerReport", "link") == PeerReport.Link.allCases.map(\.rawValue).sorted())
        for name in ["EpochPrediction", "ForecastEpoch"] {
            #expect(words(name, "bound") == EpochPrediction.Bound.allCases.map(\.rawValue).sorted())
        }
        #expect(words("DesiredReport", "protect") == Desire.allCases.map(\.rawValue).sorted())
        #expect(words("VMStatus", "role") == Role.allCases.map(\.rawValue).sorted())
        #expect(words("VMStatus", "level") == Level.allCases.map(\.rawValue).sorted())
        let error = definitions["ErrorReply"]?["properties"] as? [String: [String: Any]]
        let codes = (error?["error"]?["properties"] as? [String: [String: Any]])?["code"]?["enum"] as? [String]
        #expect(codes?.sorted() == APIError.Code.allCases.map(\.rawValue).sorted())
    }
}

@Suite struct ErrorTableTests {
    @Test func everyCodeHasItsExitStatusAndHTTPStatus() {
        let table: [APIError.Code: (Int32, Int)] = [
            .failed: (1, 500), .noSuchVM: (4, 404), .noSuchPeer: (4, 404), .refused: (5, 409), .timeout: (6, 504),
            .agentUnreachable: (7, 503), .badRequest: (64, 400),
        ]
        for code in APIError.Code.allCases {
            #expect(code.exitStatus.rawValue == table[code]?.0)
            #expect(code.httpStatus == table[code]?.1)
        }
    }

    @Test func checkTellsProtectedFromDegradedAndUnprotected() {
        for state in ProtectionState.allCases {
            let expected: RomulusAPI.ExitStatus =
                switch state {
                case .protected: .ok
                case .connecting, .preparing, .syncing, .stalled, .handingOver, .peerLost, .failingOver, .restarting,
                    .waiting:
                    .degraded
                case .unprotected, .frozen, .forked, .running, .failed: .unprotected
                }
            #expect(state.exitStatus == expected)
        }
    }

    /// A host's check counts what should be protected or is in hand; a VM that is asked for by name is what it is.
    @Test func whatNobodyWantsProtectedDoesNotCountAmongAll() {
        var status = Samples.protected()
        status.state = .unprotected
        #expect(status.exitStatusAmongAll == .unprotected, "an older agent says nothing of what is wanted")
        status.desired = DesiredReport(protect: .always)
        #expect(status.exitStatusAmongAll == .unprotected)
        status.desired = DesiredReport(protect: .manual)
        #expect(status.exitStatusAmongAll == .ok)
        status.state = .failed
        #expect(status.exitStatusAmongAll == .unprotected)
    }
}
