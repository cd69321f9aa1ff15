import FoundationEssentials
import Model
import NIOHTTP1

/// Asks an agent over its unix socket. Every function is one HTTP/1.1 request on a connection of its own; what is
/// thrown is either what the agent answered or says that it could not be asked.
public struct AgentClient: AgentService {
    public let socket: String
    /// How long an answer may take.
    public let timeout: Duration
    /// How long a stream may be silent beyond its interval: an agent that lives sends an empty line every ten seconds.
    static let silence = Duration.seconds(30)

    public init(socket: String = Romulus.defaultSocket, timeout: Duration = .seconds(30)) {
        self.socket = socket
        self.timeout = timeout
    }

    public func health() async throws(APIError) -> Health {
        try await get(Paths.health)
    }

    public func list() async throws(APIError) -> [VMStatus] {
        let list: VMList = try await get(Paths.vms)
        return list.vms
    }

    public func status(of vm: VMName) async throws(APIError) -> VMStatus {
        try await get(Paths.vm(vm))
    }

    public func epochs(of vm: VMName, limit: Int) async throws(APIError) -> EpochList {
        try await get(Paths.epochs(vm), [("limit", String(limit))])
    }

    public func forecast(_ request: ForecastRequest) async throws(APIError) -> Forecast {
        try await post(
            Paths.forecast(request.vm), request,
            longer: .seconds(request.seconds ?? ForecastRequest.usualSeconds))
    }

    public func check(_ request: CheckRequest) async throws(APIError) -> CheckReport {
        try await post(Paths.check(request.vm), request)
    }

    public func protect(_ request: ProtectRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.protect(request.vm), request)
    }

    public func tune(_ request: TuneRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.tune(request.vm), request)
    }

    public func unprotect(_ request: UnprotectRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.unprotect(request.vm), request)
    }

    public func verify(
        _ request: VerifyRequest, _ progress: @escaping @Sendable (Verification) -> Void
    ) async throws(APIError) -> Verification {
        let path = Paths.verify(request.vm)
        var last: Verification?
        try await stream(.POST, path, body: try encode(request, path), silence: Self.silence) {
            (result: Verification) throws(APIError) in
            last = result
            if !result.isOver { progress(result) }
            return !result.isOver
        }
        guard let last, last.isOver else {
            throw APIError(.agentUnreachable, "the agent stopped telling of the replica of \(request.vm)")
        }
        return last
    }

    public func failover(_ request: FailoverRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.failover(request.vm), request)
    }

    public func switchover(_ request: SwitchoverRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.switchover(request.vm), request, longer: .milliseconds(request.waitMilliseconds ?? 0))
    }

    public func dial(_ request: DialRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.dial(request.vm), request, longer: .milliseconds(request.waitMilliseconds ?? 0))
    }

    public func rejoin(_ vm: VMName) async throws(APIError) -> VMStatus {
        try await post(Paths.rejoin(vm), [String: String](), longer: .seconds(10))
    }

    public func decide(_ request: DecisionRequest) async throws(APIError) -> VMStatus {
        try await post(Paths.decide(request.vm), request)
    }

    public func maintenance() async throws(APIError) -> MaintenanceStatus {
        try await get(Paths.maintenance)
    }

    public func setMaintenance(_ request: MaintenanceRequest) async throws(APIError) -> MaintenanceStatus {
        try await post(Paths.maintenance, request)
    }

    public func events(
        _ query: EventQuery = EventQuery(), wait: Duration = .zero
    ) async throws(APIError) -> [Event] {
        let list: EventList = try await get(
            Paths.events, Self.parameters(query) + [("wait_ms", String(wait.milliseconds))])
        return list.events
    }

    public func explanation(of vm: VMName) async throws(APIError) -> Explanation {
        try await get(Paths.why(vm))
    }

    public func libvirtDomains() async throws(APIError) -> [LibvirtDomain] {
        let list: LibvirtDomainList = try await get(Paths.libvirtDomains)
        return list.domains
    }

    public func prepareLibvirt(_ request: LibvirtPrepareRequest) async throws(APIError) -> LibvirtDomain {
        try await post(Paths.libvirtPrepare, request)
    }

    public func startPermission(of vm: VMName) async throws(APIError) -> StartPermission {
        try await get(Paths.startPermission(vm))
    }

    public func allowStart(of vm: VMName) async throws(APIError) -> StartPermission {
        try await post(Paths.startPermission(vm), [String: String]())
    }

    public func standbyCommand(_ request: StandbyCommandRequest) async throws(APIError) -> String {
        var query: [(String, String)] = []
        if let vm = request.vm { query.append(("vm", vm.description)) }
        if let qmp = request.qmp { query.append(("qmp", qmp)) }
        let reply: StandbyCommandReply = try await get(Paths.standbyCommand, query)
        return reply.text
    }

    public func metrics() async throws(APIError) -> String {
        let data = try await AgentConnection(socket: socket).exchange(.GET, Paths.metrics, timeout: timeout)
        return String(decoding: data, as: UTF8.self)
    }

    /// Gives `body` the status of `vm` now and then every `interval`, until `body` returns false or the task is
    /// cancelled.
    public func watch(
        _ vm: VMName, every interval: Duration = .seconds(1), _ body: (VMStatus) async throws(APIError) -> Bool
    ) async throws(APIError) {
        let query = [("interval_ms", String(interval.milliseconds))]
        try await stream(.GET, Paths.watch(vm), query, silence: Self.silence + interval, body)
    }

    /// Gives `body` each event that `query` asks for, those there are and then each as it happens, until `body` returns
    /// false or the task is cancelled.
    public func follow(
        _ query: EventQuery = EventQuery(), _ body: (Event) async throws(APIError) -> Bool
    ) async throws(APIError) {
        var query = query
        query.newest = false
        try await stream(.GET, Paths.events, Self.parameters(query) + [("follow", "1")], silence: Self.silence, body)
    }

    private static func parameters(_ query: EventQuery) -> [(String, String)] {
        var parameters = [("after", String(query.after)), ("limit", String(query.limit))]
        if let vm = query.vm { parameters.append(("vm", vm.description)) }
        if !query.kinds.isEmpty {
            parameters.append(("kind", query.kinds.map(\.rawValue).joined(separator: ",")))
        }
        if let since = query.since { parameters.append(("since", JSONCoding.text(of: since))) }
        if query.newest { parameters.append(("newest", "1")) }
        return parameters
    }

    private func get<Reply: Decodable>(
        _ path: String, _ query: [(String, String)] = []
    ) async throws(APIError) -> Reply {
        let data = try await AgentConnection(socket: socket).exchange(.GET, target(path, query), timeout: timeout)
        return try decode(data, path)
    }

    /// `longer` is how much longer than usual the answer may take.
    private func post<Reply: Decodable>(
        _ path: String, _ request: some Encodable, longer: Duration = .zero
    ) async throws(APIError) -> Reply {
        let body = try encode(request, path)
        let data = try await AgentConnection(socket: socket).exchange(
            .POST, path, body: body, timeout: timeout + longer)
        return try decode(data, path)
    }

    private func encode(_ request: some Encodable, _ path: String) throws(APIError) -> Data {
        do {
            return try JSONCoding.encode(request)
        } catch {
            throw APIError(.badRequest, "the request for \(path) cannot be written as JSON: \(error)")
        }
    }

    private func stream<Value: Decodable>(
        _ method: HTTPMethod, _ path: String, _ query: [(String, String)] = [], body request: Data? = nil,
        silence: Duration, _ body: (Value) async throws(APIError) -> Bool
    ) async throws(APIError) {
        let connection = AgentConnection(socket: socket)
        try await connection.lines(method, target(path, query), body: request, timeout: timeout, silence: silence) {
            line throws(APIError) in
            // Empty lines only show that the agent is still there.
            if line.isEmpty { return true }
            if let failure = try? JSONCoding.decode(ErrorReply.self, from: line) { throw failure.error }
            return try await body(try decode(line, path))
        }
    }

    private func decode<Reply: Decodable>(_ data: Data, _ path: String) throws(APIError) -> Reply {
        do {
            return try JSONCoding.decode(Reply.self, from: data)
        } catch {
            throw APIError(
                .failed,
                "the agent's answer to \(path) was not understood: \(JSONCoding.explain(error)); are romulus and romulusd of the same version?"
            )
        }
    }

    private func target(_ path: String, _ query: [(String, String)]) -> String {
        guard !query.isEmpty else { return path }
        return path + "?" + query.map { "\($0)=\(Self.percentEncoded($1))" }.joined(separator: "&")
    }

    static func percentEncoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF")
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"), UInt8(ascii: "/"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                result += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
            }
        }
        return result
    }
}

extension Duration {
    /// Whole milliseconds; what is shorter than one is dropped.
    var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
