import AsyncHTTPClient
import FoundationEssentials
import Model
import NIOCore
import NIOSSL
import Synchronization

/// The arbiter that is an etcd cluster, version 3.4 or later, by its JSON gateway.
///
/// The register of a VM is the value of the key `/romulus/CLUSTER/VM`, in JSON. A change is a linearizable reading and
/// one transaction that compares the key's modification revision; leases and locks play no part. Members are tried in
/// turn, beginning with the one that answered last, until `timeout`; every attempt begins with a reading, so one that
/// was lost on its way is recognised by its nonce.
public final class EtcdArbiter: Arbiter {
    /// Paths of PEM files: the authority that issued the members' certificates, and this host's own.
    public struct Credentials: Hashable, Sendable {
        public var ca: String
        public var certificate: String
        public var key: String

        public init(ca: String, certificate: String, key: String) {
            self.ca = ca
            self.certificate = certificate
            self.key = key
        }
    }

    /// `etcd cluster “production”`.
    public let name: String
    private let endpoints: [String]
    private let prefix: String
    private let memory: ArbiterMemory
    private let timeout: Duration
    private let attemptTimeout: Duration
    private let client: HTTPClient
    /// Position of the member that answered last.
    private let favourite = Mutex(0)

    private static let replyBytesMax = 64 << 10
    /// Between two rounds in which no member answered.
    private static let roundPause = Duration.milliseconds(50)

    /// `endpoints` are URLs without a path, `https://10.0.0.3:2379`; with `credentials` all of them are `https`, without
    /// all are `http`. `timeout` bounds a request, `attemptTimeout` the attempt at one member.
    public init(
        endpoints: [String], cluster: String, credentials: Credentials?, memory: ArbiterMemory,
        timeout: Duration = .seconds(3), attemptTimeout: Duration = .seconds(1), group: any EventLoopGroup
    ) throws(EtcdError) {
        guard !endpoints.isEmpty else { throw EtcdError("etcd needs at least one endpoint") }
        name = "etcd cluster “\(cluster)”"
        prefix = "/romulus/\(cluster)/"
        self.endpoints = endpoints
        self.memory = memory
        self.timeout = timeout
        self.attemptTimeout = attemptTimeout
        var configuration = HTTPClient.Configuration(
            redirectConfiguration: .disallow, timeout: .init(connect: TimeAmount(attemptTimeout)))
        configuration.httpVersion = .http1Only
        if let credentials { configuration.tlsConfiguration = try Self.tls(credentials) }
        client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
    }

    private static func tls(_ credentials: Credentials) throws(EtcdError) -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv12
        do {
            tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(credentials.ca))
            tls.certificateChain = try NIOSSLCertificate.fromPEMFile(credentials.certificate).map { .certificate($0) }
            tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: credentials.key, format: .pem))
        } catch {
            throw EtcdError(
                "the certificates for etcd (\(credentials.ca), \(credentials.certificate), \(credentials.key)) cannot be "
                    + "used: \(error)")
        }
        return tls
    }

    public func read(_ vm: VMName) async -> RegisterReading {
        await attempts { (call) throws(Failure) in
            .value(try await self.current(vm, call)?.record.register)
        } unknown: {
            .unknown($0)
        }
    }

    public func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        // Whether a transaction was sent whose end is not known.
        var isUnsure = false
        return await attempts { (call) throws(Failure) in
            let current = try await self.current(vm, call)
            if let expected, current?.term ?? Term(0) < expected.term {
                throw self.distrust(
                    .forgot(vm: vm, seen: expected.term, found: current?.term ?? Term(0), path: self.memory.path))
            }
            let record = RegisterRecord(register: new, nonce: nonce)
            var after = current?.record
            if RegisterRules.judge(after, expecting: expected, to: new, nonce: nonce) == .change {
                let wasUnsure = isUnsure
                isUnsure = true
                after = try await self.put(record, of: vm, over: current?.revision ?? 0, call)
                isUnsure = wasUnsure
            }
            if after == record { return .applied(new) }
            // Ours may have been there for a moment, before the change that is there now.
            if isUnsure {
                throw .final(
                    "left it open: an answer was lost, and \(vm) is at term \(after?.register.term ?? Term(0)) since")
            }
            return .conflict(after?.register)
        } unknown: {
            .unknown($0)
        }
    }

    public func close() async {
        // Fails only when it was closed before.
        try? await client.shutdown()
    }

    // MARK: - Attempts

    private enum Failure: Error {
        /// Another member, or the same one later, may answer.
        case again(String)
        /// None will.
        case final(String)
    }

    /// One attempt: at whom, and until when.
    private struct Call {
        var endpoint: String
        var deadline: NIODeadline
    }

    private func attempts<Answer>(
        _ attempt: (Call) async throws(Failure) -> Answer, unknown: (String) -> Answer
    ) async -> Answer {
        let deadline = NIODeadline.now() + TimeAmount(timeout)
        var last = ""
        var tried = 0
        let first = favourite.withLock { $0 }
        while NIODeadline.now() < deadline, !Task.isCancelled {
            let position = (first + tried) % endpoints.count
            let call = Call(
                endpoint: endpoints[position], deadline: min(deadline, .now() + TimeAmount(attemptTimeout)))
            do throws(Failure) {
                let answer = try await attempt(call)
                favourite.withLock { $0 = position }
                return answer
            } catch {
                switch error {
                case .again(let reason): last = "; the last attempt, at \(call.endpoint): \(reason)"
                case .final(let reason): return unknown("\(name) \(reason)")
                }
            }
            tried += 1
            // Ends early only when the task is cancelled, and then the attempts end as well.
            if tried % endpoints.count == 0 { try? await Task.sleep(for: Self.roundPause) }
        }
        return unknown("\(name) gave no answer within \(timeout)\(last)")
    }

    // MARK: - Requests

    private struct Current {
        var record: RegisterRecord
        var revision: Int64
        var term: Term { record.register.term }
    }

    private func key(_ vm: VMName) -> Data { Data((prefix + vm.description).utf8) }

    /// Nil when the key does not exist.
    private func current(_ vm: VMName, _ call: Call) async throws(Failure) -> Current? {
        let seen = memory.seen(vm)
        let reply: Etcd.RangeResponse = try await post("/v3/kv/range", Etcd.RangeRequest(key: key(vm)), call)
        let current = try parse(reply.kvs, vm)
        try await trust(reply.header, vm, current?.term, since: seen)
        return current
    }

    /// Writes `record` when the key is still at `revision`; gives what is there afterwards.
    private func put(
        _ record: RegisterRecord, of vm: VMName, over revision: Int64, _ call: Call
    ) async throws(Failure) -> RegisterRecord? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // A plain value type with string keys: encoding it cannot fail.
        guard let value = try? encoder.encode(record) else { preconditionFailure("a register is encodable") }
        let seen = memory.seen(vm)
        let reply: Etcd.TxnResponse = try await post(
            "/v3/kv/txn", Etcd.TxnRequest(key: key(vm), value: value, ifModifiedAt: revision), call)
        let after =
            reply.succeeded == true ? record : try parse(reply.responses?.first?.responseRange?.kvs, vm)?.record
        try await trust(reply.header, vm, after?.register.term, since: seen)
        return after
    }

    private func parse(_ values: [Etcd.KeyValue]?, _ vm: VMName) throws(Failure) -> Current? {
        guard let value = values?.first else { return nil }
        guard let revision = Int64(value.modRevision),
            let record = try? JSONDecoder().decode(RegisterRecord.self, from: value.value)
        else {
            throw .final(
                "is not used: the key \(prefix)\(vm) holds something else than a register: see who writes there")
        }
        return Current(record: record, revision: revision)
    }

    /// `seen` is what this node had seen before it asked.
    private func trust(_ header: Etcd.Header, _ vm: VMName, _ term: Term?, since seen: Term) async throws(Failure) {
        let store = "etcd cluster \(header.clusterId)"
        do throws(ArbiterMemoryError) {
            try await memory.accept(store: store, vm: vm, term: term ?? Term(0), since: seen)
        } catch {
            throw distrust(error)
        }
    }

    private func distrust(_ error: ArbiterMemoryError) -> Failure { .final("is not used: \(error)") }

    private func post<Reply: Decodable>(
        _ path: String, _ message: some Encodable, _ call: Call
    ) async throws(Failure) -> Reply {
        do {
            var request = HTTPClientRequest(url: call.endpoint + path)
            request.method = .POST
            request.body = .bytes(ByteBuffer(bytes: try Etcd.encoder.encode(message)))
            let response = try await client.execute(request, deadline: call.deadline)
            let body = Data((try await response.body.collect(upTo: Self.replyBytesMax)).readableBytesView)
            guard response.status == .ok else {
                let failure = try? Etcd.decoder.decode(Etcd.Failure.self, from: body)
                throw Failure.again(
                    "it answered \(response.status)\((failure?.message ?? failure?.error).map { " (\($0))" } ?? "")")
            }
            return try Etcd.decoder.decode(Reply.self, from: body)
        } catch let failure as Failure {
            throw failure
        } catch let error as HTTPClientError where error == .deadlineExceeded || error == .connectTimeout {
            throw .again("no answer within \(attemptTimeout)")
        } catch let error as HTTPClientError where error == .alreadyShutdown {
            throw .final("was closed on this side")
        } catch {
            throw .again("\(error)")
        }
    }
}

/// What stands in the way of using etcd at all, as a sentence for the operator.
public struct EtcdError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}
