import AsyncHTTPClient
import Foundation
import NIOCore
import Registers
import Synchronization
import TestBed

/// A private etcd of one or several members on loopback, with or without TLS, whose members can be killed, started again
/// and robbed of their disks.
final class EtcdBed: Sendable {
    let scratch: Scratch
    let trust: Trust?
    let endpoints: [String]
    private let commands: [[String]]
    private let members: Mutex<[Child?]>

    static func with(
        _ scratch: Scratch, members count: Int, trust: Trust? = nil, _ body: (EtcdBed) async throws -> Void
    ) async throws {
        let bed = try EtcdBed(scratch, count, trust)
        do {
            for member in 0..<count { try bed.start(member) }
            // The first answer says that there is a leader.
            let probe = try bed.arbiter("probe", timeout: .seconds(60))
            let reading = await probe.read(vm("probe"))
            await probe.close()
            guard case .value(nil) = reading else { throw BedError("etcd does not start: \(reading)") }
            try await body(bed)
        } catch {
            try await bed.killAll()
            throw error
        }
        try await bed.killAll()
    }

    private init(_ scratch: Scratch, _ count: Int, _ trust: Trust?) throws {
        self.scratch = scratch
        self.trust = trust
        let scheme = trust == nil ? "http" : "https"
        func peer(_ member: Int) -> String { "http://\(scratch.address):\(2380 + 10 * member)" }
        let peers = (0..<count).map { "m\($0)=\(peer($0))" }.joined(separator: ",")
        endpoints = (0..<count).map { "\(scheme)://\(scratch.address):\(2379 + 10 * $0)" }
        commands = try (0..<count).map { [endpoints] member in
            var command = [
                "etcd", "--name", "m\(member)", "--data-dir", try scratch.folder("etcd-\(member)"),
                "--listen-client-urls", endpoints[member], "--advertise-client-urls", endpoints[member],
                "--listen-peer-urls", peer(member), "--initial-advertise-peer-urls", peer(member), "--initial-cluster",
                peers,
                "--initial-cluster-token", "test", "--heartbeat-interval", "50", "--election-timeout", "500",
                "--logger", "zap", "--log-level", "error",
            ]
            if let trust {
                let own = trust.credentials("gamma")
                command += [
                    "--cert-file", own.certificate, "--key-file", own.key, "--trusted-ca-file", own.ca,
                    "--client-cert-auth",
                ]
            }
            return command
        }
        members = Mutex(Array(repeating: nil, count: count))
    }

    func start(_ member: Int) throws {
        let child = try Child(commands[member], name: "etcd-\(member)", logs: scratch.path)
        members.withLock { $0[member] = child }
    }

    func kill(_ member: Int) async throws { try await members.withLock { $0[member].take() }?.killAndWait() }

    func killAll() async throws {
        for member in commands.indices { try await kill(member) }
    }

    func loseDisk(_ member: Int) throws { try FileManager.default.removeItem(atPath: "\(scratch.path)/etcd-\(member)") }

    /// Which member leads, asked of the first that answers.
    func leader() async throws -> Int {
        struct Status: Decodable {
            struct Header: Decodable { var memberId: String }
            var header: Header
            var leader: String
        }
        for (member, endpoint) in endpoints.enumerated() {
            var request = HTTPClientRequest(url: endpoint + "/v3/maintenance/status")
            request.method = .POST
            request.body = .bytes(ByteBuffer(string: "{}"))
            guard let response = try? await HTTPClient.shared.execute(request, timeout: .seconds(5)) else { continue }
            let body = Data((try await response.body.collect(upTo: 1 << 16)).readableBytesView)
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let status = try decoder.decode(Status.self, from: body)
            if status.header.memberId == status.leader { return member }
        }
        throw BedError("no member of etcd says that it leads.")
    }

    func arbiter(
        _ name: String = "alpha", memory: String? = nil, credentials: EtcdArbiter.Credentials? = nil,
        endpoints: [String]? = nil, timeout: Duration = .seconds(20), attemptTimeout: Duration = .seconds(1)
    ) throws -> EtcdArbiter {
        try EtcdArbiter(
            endpoints: endpoints ?? self.endpoints, cluster: "test",
            credentials: credentials ?? trust?.credentials("alpha"), memory: scratch.memory(memory ?? name),
            timeout: timeout, attemptTimeout: attemptTimeout, group: scratch.group)
    }
}
