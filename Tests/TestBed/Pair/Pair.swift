import Foundation
import Synchronization

/// Romulus on both hosts of a bed: certificates, configurations, agents, and the CLI as an operator uses it.
///
/// It drives the programs of this build from outside, like everything in the bed.
public final class Pair: Sendable {
    public let bed: Bed
    private let directory: TemporaryDirectory
    private let arbiter: Arbiter
    private let hosts: [BedHost]
    private let agents = Mutex<[String: Child]>([:])

    /// The names of the hosts in certificates and configurations.
    public static let names = ["a": "hosta", "b": "hostb", "client": "hostc"]

    /// What a test wants different from the defaults.
    public struct Options: Sendable {
        /// The agent of host A: `romulusd`, or the bed's build of it with planted faults.
        public var program = "romulusd"
        public var environment: [String: String] = [:]
        public var epochMilliseconds = 20
        public var silenceMilliseconds = 1000
        public var reprotectsByItself = false
        /// Without an arbiter, output is held when the standby is lost.
        public var freezes = false
        /// Whether heartbeats travel over the guest LAN too.
        public var hasSecondPath = false
        /// What replication is spread over.
        public var connections = 1
        /// Who decides when a host is silent.
        public var arbiter = Arbiter.operator
        /// The client's machine has an agent too, as `hostc`, which is reached over the guest LAN.
        public var hasThirdHost = false
        /// Lines for the `vms` section by host, "a", "b" and "client", indented by two.
        public var vms: [String: [String]] = [:]
        /// The QEMU of standbys by host, "a" and "b"; others take the primary's.
        public var qemus: [String: QEMUProgram] = [:]
        /// What makes sure that the other host is off, by host, "a" and "b": the lines of its `fence` section.
        public var fences: [String: [String]] = [:]
        /// More lines of the section `defaults`.
        public var defaults: [String] = []
        /// Lines of the section `libvirt` by host, "a" and "b".
        public var libvirt: [String: [String]] = [:]
        public var logLevel = "info"
        public init() {}
    }

    public enum Arbiter: String, Sendable {
        case `operator`, witness, etcd
    }

    public init(on bed: Bed, _ options: Options = Options()) async throws {
        self.bed = bed
        arbiter = options.arbiter
        hosts = bed.hosts + (options.hasThirdHost ? [bed.client] : [])
        directory = try TemporaryDirectory("pair")
        let pki = directory.path + "/pki"
        try Self.run(["pki", "init", "--directory", pki])
        for host in hosts { try Self.run(["pki", "issue", Self.name(host), "--directory", pki]) }
        try configure(options)
        switch options.arbiter {
        case .operator: break
        case .witness: try await startWitness(pki)
        case .etcd: try await restartArbiter()
        }
        try await startAgents(options)
    }

    private func startAgents(_ options: Options) async throws {
        for host in hosts {
            try await start(host, program: host.name == "a" ? options.program : "romulusd", options.environment)
        }
    }

    deinit { directory.remove() }

    private func configure(_ options: Options) throws {
        let pki = directory.path + "/pki"
        for host in hosts {
            let peers = hosts.filter { $0 !== host }.map { peer in
                Self.peerLines(host, to: peer, options) + Self.fenceLines(options.fences[host.name])
            }
            // The third host is not on the replication link.
            let listen = options.hasThirdHost ? "0.0.0.0" : host.replicationAddress ?? ""
            let text = """
                node: \(Self.name(host))
                listen: \(listen):7310
                tls:
                  ca: \(pki)/ca.crt
                  certificate: \(pki)/\(Self.name(host)).crt
                  key: \(pki)/\(Self.name(host)).key
                peers:
                \(peers.joined(separator: "\n"))
                \(options.hasSecondPath ? "heartbeat_listen: \(host.lanAddress ?? ""):7311" : "")
                api:
                  socket: \(Self.socket(host))
                state_directory: \(host.stateDirectory)/romulus
                runtime_directory: \(host.runtimeDirectory)/romulus
                memory_directory: \(host.shmDirectory)/romulus
                log_level: \(options.logLevel)
                defaults:
                  epoch_ms: \(options.epochMilliseconds)
                  reprotect: \(options.reprotectsByItself ? "automatic" : "manual")
                  standby_lost: \(options.freezes ? "freeze" : "run-alone")
                \(options.defaults.map { "  " + $0 }.joined(separator: "\n"))
                detection:
                  silence_ms: \(options.silenceMilliseconds)
                \(Self.arbiterLines(options.arbiter, bed))
                \(Self.section("libvirt", options.libvirt[host.name]))
                \(try Self.qemuLines(options.qemus[host.name]))
                \(Self.section("vms", options.vms[host.name]))
                """
            try text.write(toFile: Self.configuration(host), atomically: true, encoding: .utf8)
        }
    }

    /// Ends both agents and starts them anew with another configuration; the arbiter stays. No VM may be protected.
    public func restart(_ options: Options) async throws {
        for host in hosts {
            guard let agent = agent(host) else { continue }
            agent.kill(SIGTERM)
            try await agent.wait()
        }
        try configure(options)
        try await startAgents(options)
    }

    private static func peerLines(_ host: BedHost, to peer: BedHost, _ options: Options) -> String {
        let isLinked = host.replicationAddress != nil && peer.replicationAddress != nil
        var lines = [
            "  \(name(peer)):", "    address: \((isLinked ? peer.replicationAddress : peer.lanAddress) ?? ""):7310",
            "    connections: \(options.connections)",
        ]
        if options.hasSecondPath { lines.append("    heartbeat_address: \(peer.lanAddress ?? ""):7311") }
        return lines.joined(separator: "\n")
    }

    private static func arbiterLines(_ arbiter: Arbiter, _ bed: Bed) -> String {
        let address = bed.witness.lanAddress ?? ""
        return switch arbiter {
        case .operator: ""
        case .witness: "arbiter:\n  witness:\n    address: \(address):7320\n    node: witness"
        case .etcd: "arbiter:\n  etcd:\n    endpoints: [\"http://\(address):2379\"]\n    cluster: bed"
        }
    }

    private static func section(_ name: String, _ lines: [String]?) -> String {
        lines.map { "\(name):\n" + $0.joined(separator: "\n") } ?? ""
    }

    private static func qemuLines(_ qemu: QEMUProgram?) throws -> String {
        guard let qemu else { return "" }
        let path = try qemu.path()
        return "qemu:\n  binary: \(path.hasPrefix("/") ? path : "/usr/bin/\(path)")"
    }

    private static func fenceLines(_ lines: [String]?) -> String {
        guard let lines else { return "" }
        return "\n    fence:\n" + lines.map { "      " + $0 }.joined(separator: "\n")
    }

    private func startWitness(_ pki: String) async throws {
        try Self.run(["pki", "issue", "witness", "--directory", pki])
        let peers = hosts.map { host in
            "  \(Self.name(host)):\n    address: \(host.replicationAddress ?? host.lanAddress ?? ""):7310"
        }.joined(separator: "\n")
        try """
        node: witness
        tls:
          ca: \(pki)/ca.crt
          certificate: \(pki)/witness.crt
          key: \(pki)/witness.key
        peers:
        \(peers)
        witness:
          listen: \(bed.witness.lanAddress ?? ""):7320
        state_directory: \(bed.witness.stateDirectory)
        """.write(toFile: Self.configuration(bed.witness), atomically: true, encoding: .utf8)
        try await restartArbiter()
    }

    /// Starts the witness or etcd on the third machine, for the first time or again, and waits until it serves.
    public func restartArbiter() async throws {
        if arbiter == .etcd { return try await startEtcd() }
        let child = try bed.witness.spawn(
            [try Programs.path("romulusd"), "--config", Self.configuration(bed.witness)], name: "romulusd")
        agents.withLock { $0[bed.witness.name] = child }
        try await eventually("the witness serves", within: .seconds(30)) {
            guard child.isRunning else { throw BedError("the witness ended: \(child.errors)") }
            return child.errors.contains("is a witness for") || child.output.contains("is a witness for") ? true : nil
        }
    }

    /// A cluster of one member: what it grants is as durable as that of three, only its loss is not survived.
    private func startEtcd() async throws {
        let client = "http://\(bed.witness.lanAddress ?? ""):2379"
        let peer = "http://\(bed.witness.lanAddress ?? ""):2380"
        let child = try bed.witness.spawn([
            "etcd", "--name", "m0", "--data-dir", "\(bed.witness.stateDirectory)/etcd", "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", "m0=\(peer)", "--logger", "zap", "--log-level", "error",
        ])
        agents.withLock { $0[bed.witness.name] = child }
        try await eventually("etcd serves", within: .seconds(30)) {
            guard child.isRunning else { throw BedError("etcd ended: \(child.errors)") }
            let health = try? Child.run(bed.client.enter(["bash", "-c", Self.etcdProbe(bed)]), limit: .seconds(5))
            return health?.contains("true") == true ? true : nil
        }
    }

    /// Asks `/health` by bash alone: the bed's machines have no HTTP client that they need for anything else.
    private static func etcdProbe(_ bed: Bed) -> String {
        "exec 3<>/dev/tcp/\(bed.witness.lanAddress ?? "")/2379 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    }

    public static func name(_ host: BedHost) -> String { names[host.name] ?? host.name }
    public static func socket(_ host: BedHost) -> String { "\(host.runtimeDirectory)/romulusd.sock" }
    static func configuration(_ host: BedHost) -> String { "\(host.runtimeDirectory)/romulusd.yaml" }

    /// Starts the agent of a host, for the first time or again, and waits until it answers.
    @discardableResult
    public func start(
        _ host: BedHost, program: String = "romulusd", _ environment: [String: String] = [:]
    ) async throws -> Child {
        let child = try host.spawn(
            [try Programs.path(program), "--config", Self.configuration(host)], name: "romulusd",
            environment: environment)
        agents.withLock { $0[host.name] = child }
        try await eventually("romulusd of host \(host.name) answers", within: .seconds(30)) {
            guard child.isRunning else { throw BedError("romulusd of host \(host.name) ended: \(child.errors)") }
            return FileManager.default.fileExists(atPath: Self.socket(host)) && (try? list(host)) != nil ? true : nil
        }
        return child
    }

    /// The agent that was started last at that host.
    public func agent(_ host: BedHost) -> Child? { agents.withLock { $0[host.name] } }

    // MARK: - The CLI

    public struct Outcome: Sendable {
        public var status: Int32
        public var output: String
        public var errors: String
    }

    /// Runs `romulus` against the agent of `host` and returns what it printed and its exit code.
    public func romulus(_ host: BedHost, _ arguments: [String]) throws(BedError) -> Outcome {
        try Self.call(arguments + ["--socket", Self.socket(host)])
    }

    private static func run(_ arguments: [String]) throws(BedError) {
        let outcome = try call(arguments)
        guard outcome.status == 0 else {
            throw BedError(
                "romulus \(arguments.joined(separator: " ")) ended with \(outcome.status): \(outcome.errors)")
        }
    }

    private static func call(_ arguments: [String]) throws(BedError) -> Outcome {
        let outcome = try Child.outcome(of: [try Programs.path("romulus")] + arguments)
        guard case .code(let status) = outcome.exit else {
            throw BedError("romulus \(arguments.joined(separator: " ")) ended by \(outcome.exit): \(outcome.errors)")
        }
        return Outcome(status: status, output: outcome.output, errors: outcome.errors)
    }

    // MARK: - Status

    /// What `romulus status --output json` says of a VM.
    public struct Status: Decodable, Sendable {
        public struct Percentiles: Decodable, Sendable {
            public var p50: Double
            public var p95: Double
        }
        public struct Epoch: Decodable, Sendable {
            public var epoch: UInt64
            public var runMs: Double
            public var pauseMs: Double
            public var stopMs: Double
            public var scanMs: Double
            public var copyMs: Double
            public var deviceStateMs: Double
            public var resumeMs: Double
            public var encodeMs: Double
            public var transferMs: Double
            public var acknowledgeMs: Double
            public var releaseMs: Double
            public var heldMs: Double
            public var dirtyPages: UInt64
            public var linkBytes: UInt64
            public var heldFrames: UInt64
        }
        public var name: String
        public var role: String
        public var state: String
        public var level: String
        public var peer: String
        public var epoch: UInt64
        public var epochMs: Int
        public struct Target: Decodable, Sendable {
            public var latencyMs: Double?
            public var overheadPercent: Double?
            public var reached: Double?
            public var held: Bool
            public var reason: String?
        }
        public var target: Target?
        public var qmp: String?
        public var pid: Int32?
        public var pauseMs: Percentiles?
        public var outputLatencyMs: Percentiles?
        public var epochsPerSecond: Double
        public var linkBytesPerSecond: Double
        public var linkCapMbit: Int?
        public var linkConnections: Int?
        public var epochsInFlight: UInt64?
        public struct Peer: Decodable, Sendable {
            public var link: String
            public var secondPath: Bool?
            public var silenceBorneMs: Double
        }
        public struct Arbiter: Decodable, Sendable {
            public var name: String
            public var up: Bool
            public var lastAnswerMs: Double?
        }
        public var since: String
        public var lastEpoch: Epoch?
        public var peerReport: Peer?
        public var arbiter: Arbiter?
        public struct Identity: Decodable, Sendable {
            public var uuid: String
            public var made: Bool
        }
        public var identity: Identity?
        public struct Desired: Decodable, Sendable {
            public var protect: String
            public var reason: String?
            public var elsewhere: String?
        }
        public var desired: Desired?
        public var diskLoss: [DiskLoss]?
        public var lastError: String?
    }

    /// A disk whose copy at the guest's host is lost.
    public struct DiskLoss: Decodable, Sendable {
        public var disk: String
        public var reason: String
        public var rejoining: Bool
    }

    public func list(_ host: BedHost) throws -> [Status] {
        struct List: Decodable { var vms: [Status] }
        let outcome = try romulus(host, ["list", "--output", "json"])
        guard outcome.status == 0 else {
            throw BedError("romulus list ended with \(outcome.status): \(outcome.errors)")
        }
        return try Self.decode(List.self, outcome.output).vms
    }

    public func status(_ host: BedHost, _ vm: String) throws -> Status? { try list(host).first { $0.name == vm } }

    // MARK: - What it costs

    /// What `romulus forecast --output json` says.
    public struct Forecast: Decodable, Sendable {
        public struct Epoch: Decodable, Sendable {
            public var epochMs: Int
            public var watched: Int
            public var dirtyPages: Status.Percentiles
            public var pauseMs: Status.Percentiles
            public var answerMs: Double
            public var busyAnswerMs: Double
            public var slowdown: Double
            public var linkBytesPerEpoch: Double
            public var linkBytesPerSecond: Double
            public var agentCpuRatio: Double
        }
        public struct Link: Decodable, Sendable {
            public var peer: String
            public var roundTripMs: Double?
            public var error: String?
        }
        public struct Requests: Decodable, Sendable {
            public struct Span: Decodable, Sendable {
                public var least: Double
                public var most: Double
            }
            public var framesOutPerSecond: Double?
            public var framesInPerSecond: Double?
            public var roundTripsPerSecondMax: Double?
            public var answerMs: Span
            public var lost: Span?
        }
        public var epochs: [Epoch]
        public var link: Link?
        public var requests: Requests?
        public var pausesMeasured: Bool
        public var deviceStateBytes: UInt64
        public var agentMemoryBytes: UInt64
        public var standbyMemoryBytes: UInt64
        public var advice: String
    }

    public func forecast(_ vm: GuestVM, _ arguments: [String] = []) throws -> Forecast {
        let outcome = try romulus(
            vm.host, ["forecast", vm.configuration.name, "--qmp", vm.monitorPath, "--json"] + arguments)
        guard outcome.status == 0 else {
            throw BedError("romulus forecast ended with \(outcome.status): \(outcome.errors)")
        }
        return try Self.decode(Forecast.self, outcome.output)
    }

    /// What `romulus top --once --json` says.
    public struct Top: Decodable, Sendable {
        public struct VM: Decodable, Sendable {
            public var status: Status
            public var qemuCpuRatio: Double?
        }
        public struct Row: Decodable, Sendable {
            public struct Model: Decodable, Sendable {
                public var pauseMs: Double
                public var acknowledgeMs: Double
                public var linkBytes: Double
            }
            public var measured: Status.Epoch
            public var model: Model?
        }
        public struct Epochs: Decodable, Sendable {
            public var vm: String
            public var epochs: [Row]
        }
        public var node: String
        public var agentCpuRatio: Double?
        public var vms: [VM]
        public var epochs: Epochs?
    }

    public func top(_ host: BedHost, _ vm: String) throws -> Top {
        let outcome = try romulus(host, ["top", vm, "--once", "--json"])
        guard outcome.status == 0 else {
            throw BedError("romulus top ended with \(outcome.status): \(outcome.errors)")
        }
        return try Self.decode(Top.self, outcome.output)
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(text.utf8))
    }

    /// Waits until the VM is in that state at that host; an error of the VM ends the waiting. A standby is `protected`
    /// too: after a failover, say that the host is to be the primary.
    @discardableResult
    public func wait(
        _ host: BedHost, _ vm: String, for state: String, as role: String? = nil, within limit: Duration
    ) async throws -> Status {
        try await eventually("\(vm) is \(state) at host \(host.name)", within: limit) {
            guard let status = try status(host, vm) else { return nil }
            if status.state == "failed", state != "failed" {
                throw BedError("\(vm) failed at host \(host.name): \(status.lastError ?? "no reason given")")
            }
            return status.state == state && (role ?? status.role) == status.role ? status : nil
        }
    }

    /// Steps of a failover, in milliseconds after the decision to take over.
    public struct TakeOverSteps: Sendable {
        public var running: Double
        public var loaded: Double
        public var recorded: Double
    }

    /// From the events of `host`.
    public func takeOverSteps(_ host: BedHost, _ vm: String) throws -> TakeOverSteps {
        let outcome = try romulus(host, ["events", vm])
        let pattern =
            /runs here from checkpoint \d+, ([0-9.]+) ms after .* loaded after ([0-9.]+) ms, .* durable after ([0-9.]+) ms/
        guard let match = outcome.output.firstMatch(of: pattern), let running = Double(match.1),
            let loaded = Double(match.2), let recorded = Double(match.3)
        else {
            throw BedError("the agent of host \(host.name) did not say how long the failover took: \(outcome.output)")
        }
        return TakeOverSteps(running: running, loaded: loaded, recorded: recorded)
    }

    /// When the first event of this kind happened at `host`, in nanoseconds of CLOCK_BOOTTIME.
    public func bootTime(ofFirst kind: String, at host: BedHost, _ vm: String) throws -> Int64 {
        struct Line: Decodable { var bootNs: Int64 }
        let outcome = try romulus(host, ["events", vm, "--kind", kind, "--output", "json"])
        guard let line = outcome.output.split(separator: "\n").first else {
            throw BedError("host \(host.name) has no event “\(kind)” of \(vm): \(outcome.errors)")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Line.self, from: Data(line.utf8)).bootNs
    }

    /// Protects a VM of host A with host B as standby, and waits until it is protected.
    @discardableResult
    public func protect(
        _ vm: GuestVM, _ arguments: [String] = [], within limit: Duration = .seconds(120)
    ) async throws -> Status {
        let name = vm.configuration.name
        let outcome = try romulus(
            vm.host,
            [
                "protect", name, "--create-image", "--qmp", vm.monitorPath, "--standby",
                Self.name(vm.host.name == "a" ? bed.b : bed.a),
            ]
                + arguments)
        guard outcome.status == 0 else {
            throw BedError("romulus protect ended with \(outcome.status): \(outcome.errors)\(outcome.output)")
        }
        return try await wait(vm.host, name, for: "protected", within: limit)
    }
}
