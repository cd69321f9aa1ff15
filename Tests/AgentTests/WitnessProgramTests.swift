import Agent
import AsyncHTTPClient
import Foundation
import Model
import NIOPosix
import PKI
import Registers
import RomulusAPI
import TestBed
import Testing

/// `romulusd` as a witness: the real program, and the arbiter that another host's configuration names.
@Suite(.timeLimit(.minutes(1))) struct WitnessProgramTests {
    /// One directory, one loopback address that nobody else uses, certificates for alpha and gamma.
    struct Scene {
        let directory: String
        let address = "127.\(Int.random(in: 1...254)).\(Int.random(in: 1...254)).\(Int.random(in: 1...254))"

        static func with(_ body: (Scene) async throws -> Void) async throws {
            let directory = try TemporaryDirectory("witness-program")
            defer { directory.remove() }
            let scene = Scene(directory: directory.path)
            let authority = try CertificateAuthority.create(directory: scene.directory + "/pki")
            for name in ["alpha", "gamma"] { _ = try authority.issue(node: NodeName(checking: name)) }
            try await body(scene)
        }

        func configuration(_ node: String, _ more: String) throws -> String {
            let text = """
                node: \(node)
                tls:
                  ca: \(directory)/pki/ca.crt
                  certificate: \(directory)/pki/\(node).crt
                  key: \(directory)/pki/\(node).key
                state_directory: \(directory)/\(node)
                \(more)
                """
            let path = "\(directory)/\(node).yaml"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            return path
        }

        func start(_ configuration: String) throws -> Child {
            try Child([try Programs.path("romulusd"), "--config", configuration], name: "romulusd", logs: directory)
        }
    }

    static func register(_ term: UInt64) -> Register {
        Register(
            term: Term(term), owner: NodeName(unchecked: "alpha"), mode: .solo, session: .none, standby: nil,
            lineage: Lineage(1), level: .system)
    }

    @Test func aWitnessServesSurvivesAndStops() async throws {
        try await Scene.with { scene in
            let gamma = try scene.configuration(
                "gamma",
                """
                peers: {alpha: {address: "10.0.0.1:7310"}}
                witness: {listen: "\(scene.address):7320"}
                metrics: {listen: "\(scene.address):9731"}
                """)
            #expect(Configuration.report(path: gamma) == ("\(gamma): good: node gamma, witness for 1 peer", true))
            let alpha = try scene.configuration(
                "alpha", "arbiter: {witness: {address: \"\(scene.address):7320\", node: gamma}}")
            try FileManager.default.createDirectory(
                atPath: "\(scene.directory)/alpha", withIntermediateDirectories: false)
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            var witness = try scene.start(gamma)
            defer { witness.kill() }
            let web = VMName(unchecked: "web")
            let configuration = try Configuration.load(path: alpha)
            let identity = try TLSIdentity.load(
                directory: scene.directory + "/pki", node: NodeName(checking: "alpha"))
            let arbiter = try #require(try configuration.makeArbiter(identity: identity, group: group))

            // Killed in the middle of claims, and started again: whatever was answered is there.
            var register: Register?
            for round in 1...3 {
                let first = (register?.term.number ?? 0) + 1
                for term in first..<(first + 20) {
                    if round > 1, term == first + 10 {
                        witness.kill()
                        try await witness.wait()
                        witness = try scene.start(gamma)
                    }
                    let new = Self.register(term)
                    var answer: RegisterAnswer
                    repeat {
                        try #require(witness.isRunning, "romulusd ended: \(witness.errors)")
                        answer = await arbiter.compareAndSet(web, expecting: register, to: new, nonce: Nonce(term))
                    } while answer != .applied(new) && answer != .conflict(register)
                    try #require(answer == .applied(new))
                    register = new
                }
            }
            #expect(await arbiter.read(web) == .value(Self.register(60)))

            let reply = try await HTTPClient.shared.execute(
                HTTPClientRequest(url: "http://\(scene.address):9731/metrics"), timeout: .seconds(20))
            let metrics = String(buffer: try await reply.body.collect(upTo: 1 << 20))
            #expect(metrics.contains("\nromulus_witness_vms 1\n"))
            #expect(metrics.contains("\nromulus_witness_requests_total{outcome=\"applied\"} "))

            await arbiter.close()
            witness.kill(SIGTERM)
            #expect(try await witness.wait() == .code(0))
            #expect(witness.errors.contains("gamma is a witness for alpha on \(scene.address):7320: 1 VMs, store "))
            try await group.shutdownGracefully()
        }
    }

    @Test func aDamagedLogIsToldInOneSentence() async throws {
        try await Scene.with { scene in
            let gamma = try scene.configuration(
                "gamma",
                "peers: {alpha: {address: \"10.0.0.1:7310\"}}\nwitness: {listen: \"\(scene.address):7320\"}")
            try FileManager.default.createDirectory(
                atPath: "\(scene.directory)/gamma/witness", withIntermediateDirectories: true)
            let log = "\(scene.directory)/gamma/witness/witness.log"
            try Data("no log".utf8).write(to: URL(fileURLWithPath: log))
            let witness = try scene.start(gamma)
            defer { witness.kill() }
            #expect(try await witness.wait() == .code(1))
            #expect(witness.errors.contains("romulusd: \(log) is damaged at byte 0"))
        }
    }

    @Test func withoutAnArbiterThereIsNone() async throws {
        try await Scene.with { scene in
            let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
            let identity = try TLSIdentity.load(
                directory: scene.directory + "/pki", node: NodeName(checking: "alpha"))
            let none = try Configuration.load(path: scene.configuration("alpha", ""))
            #expect(try none.makeArbiter(identity: identity, group: group) == nil)
            try FileManager.default.createDirectory(
                atPath: "\(scene.directory)/alpha", withIntermediateDirectories: false)
            let etcd = try Configuration.load(
                path: scene.configuration(
                    "alpha", "arbiter: {etcd: {endpoints: [\"http://\(scene.address):2379\"], cluster: c1}}"))
            let arbiter = try #require(try etcd.makeArbiter(identity: identity, group: group))
            #expect(arbiter.name == "etcd cluster “c1”")
            await arbiter.close()
            try await group.shutdownGracefully()
        }
    }
}
