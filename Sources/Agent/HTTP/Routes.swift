import FoundationEssentials
import Hummingbird
import Model
import NIOCore
import RomulusAPI
import ServiceLifecycle
import Telemetry

/// Which path calls what, and how requests and replies look on the wire; `docs/API.md` describes the same.
struct Routes: Sendable {
    let service: any AgentService

    static let requestBytesMax = 64 << 10
    /// A request may wait for an event this long at most; a stream shows that it lives at least this often.
    static let waitMax = Duration.seconds(10)

    func api() -> Router<BasicRequestContext> {
        let router = Router()
        router.add(middleware: ErrorReplies())
        addLooking(to: router)
        addAskingBeforehand(to: router)
        addProtection(to: router)
        addMoves(to: router)
        addLibvirt(to: router)
        Self.addMetrics(to: router) { [service] in try await service.metrics() }
        return router
    }

    private func addLooking(to router: Router<BasicRequestContext>) {
        router.get("/v1/health") { [service] _, _ in try reply(await service.health()) }
        router.get("/v1/vms") { [service] _, _ in try reply(VMList(await service.list())) }
        router.get("/v1/vms/:vm") { [service] _, context in
            try reply(await service.status(of: vmName(context)))
        }
        router.get("/v1/vms/:vm/epochs") { [service] request, context in
            let range = EpochList.limitRange
            let limit = try Query(request).integer("limit", range, default: range.upperBound)
            return try reply(await service.epochs(of: vmName(context), limit: limit))
        }
        router.get("/v1/vms/:vm/watch") { request, context in try await watch(request, vmName(context)) }
        router.get("/v1/vms/:vm/why") { [service] _, context in
            try reply(await service.explanation(of: vmName(context)))
        }
        router.get("/v1/events") { request, _ in try await events(request) }
    }

    private func addAskingBeforehand(to router: Router<BasicRequestContext>) {
        router.post("/v1/vms/:vm/forecast") { [service] request, context in
            let name = try vmName(context)
            let body: ForecastRequest = try await body(request, context, name) { $0.vm }
            let range = ForecastRequest.secondsRange
            if let seconds = body.seconds, !range.contains(seconds) {
                throw APIError(
                    .badRequest,
                    "“seconds” must be from \(Int(range.lowerBound)) to \(Int(range.upperBound)), not \(seconds)")
            }
            if let rate = body.linkMegabits, !(rate > 0) {
                throw APIError(.badRequest, "“link_mbit” must be more than 0, not \(rate)")
            }
            let counts = ForecastRequest.countRange
            for (name, count) in [("clients", body.clients), ("round_trips", body.roundTrips)] {
                guard let count, !counts.contains(count) else { continue }
                throw APIError(
                    .badRequest, "“\(name)” must be from \(counts.lowerBound) to \(counts.upperBound), not \(count)")
            }
            return try reply(await service.forecast(body))
        }
        router.post("/v1/vms/:vm/check") { [service] request, context in
            let name = try vmName(context)
            let body: CheckRequest = try await body(request, context, name) { $0.vm }
            return try reply(await service.check(body))
        }
        router.get("/v1/standby-command") { [service] request, _ in
            let query = Query(request)
            let subject = StandbyCommandRequest(vm: try query.vmName(), qmp: query.text("qmp"))
            guard subject.vm != nil || subject.qmp != nil else {
                throw APIError(.badRequest, "give “vm” or “qmp” in the query, or both")
            }
            return try reply(StandbyCommandReply(await service.standbyCommand(subject)))
        }
    }

    private func addProtection(to router: Router<BasicRequestContext>) {
        router.post("/v1/vms/:vm/protect") { [service] request, context in
            let name = try vmName(context)
            let body: ProtectRequest = try await body(request, context, name) { $0.vm }
            try body.checkTuning()
            return try reply(await service.protect(body), status: .accepted)
        }
        router.post("/v1/vms/:vm/tune") { [service] request, context in
            let name = try vmName(context)
            let body: TuneRequest = try await body(request, context, name) { $0.vm }
            try body.check()
            return try reply(await service.tune(body))
        }
        router.post("/v1/vms/:vm/unprotect") { [service] request, context in
            let name = try vmName(context)
            let body: UnprotectRequest = try await body(request, context, name) { $0.vm }
            return try reply(await service.unprotect(body))
        }
        router.post("/v1/vms/:vm/verify") { request, context in try await verify(request, context) }
    }

    private func addMoves(to router: Router<BasicRequestContext>) {
        router.post("/v1/vms/:vm/failover") { [service] request, context in
            let name = try vmName(context)
            let body: FailoverRequest = try await body(request, context, name) { $0.vm }
            return try reply(await service.failover(body), status: .accepted)
        }
        router.post("/v1/vms/:vm/switchover") { [service] request, context in
            let name = try vmName(context)
            let body: SwitchoverRequest = try await body(request, context, name) { $0.vm }
            try checkWait(body.waitMilliseconds)
            return try reply(await service.switchover(body), status: .accepted)
        }
        router.post("/v1/vms/:vm/dial") { [service] request, context in
            let name = try vmName(context)
            let body: DialRequest = try await body(request, context, name) { $0.vm }
            try checkWait(body.waitMilliseconds)
            return try reply(await service.dial(body), status: .accepted)
        }
        router.post("/v1/vms/:vm/rejoin") { [service] _, context in
            try reply(await service.rejoin(try vmName(context)), status: .accepted)
        }
        router.post("/v1/vms/:vm/decide") { [service] request, context in
            let name = try vmName(context)
            let body: DecisionRequest = try await body(request, context, name) { $0.vm }
            return try reply(await service.decide(body), status: .accepted)
        }
        router.get("/v1/maintenance") { [service] _, _ in try reply(await service.maintenance()) }
        router.post("/v1/maintenance") { [service] request, context in
            let body: MaintenanceRequest = try await body(request, context)
            return try reply(await service.setMaintenance(body), status: .accepted)
        }
    }

    private func addLibvirt(to router: Router<BasicRequestContext>) {
        router.get("/v1/libvirt/domains") { [service] _, _ in
            try reply(LibvirtDomainList(await service.libvirtDomains()))
        }
        router.post("/v1/libvirt/prepare") { [service] request, context in
            let body: LibvirtPrepareRequest = try await body(request, context)
            return try reply(await service.prepareLibvirt(body))
        }
        router.get("/v1/vms/:vm/start-permission") { [service] _, context in
            try reply(await service.startPermission(of: vmName(context)))
        }
        router.post("/v1/vms/:vm/start-permission") { [service] _, context in
            try reply(await service.allowStart(of: vmName(context)))
        }
    }

    private func checkWait(_ wait: Int?) throws(APIError) {
        let range = WaitRange.milliseconds
        guard let wait, !range.contains(wait) else { return }
        throw APIError(.badRequest, "“wait_ms” must be from \(range.lowerBound) to \(range.upperBound), not \(wait)")
    }

    static func metricsOnly(
        _ text: @escaping @Sendable () async throws -> String
    ) -> Router<BasicRequestContext> {
        let router = Router()
        router.add(middleware: ErrorReplies())
        addMetrics(to: router, text)
        return router
    }

    private static func addMetrics(
        to router: Router<BasicRequestContext>, _ text: @escaping @Sendable () async throws -> String
    ) {
        router.get("/metrics") { _, _ in
            Response(
                status: .ok, headers: [.contentType: Registry.contentType],
                body: ResponseBody(byteBuffer: ByteBuffer(string: try await text())))
        }
    }

    // MARK: - streams

    /// One status a line, at once and then at each interval, until the client goes.
    private func watch(_ request: Request, _ name: VMName) async throws -> Response {
        let interval = Duration.milliseconds(try Query(request).integer("interval_ms", 100...60_000, default: 1000))
        // A VM that is not there is a 404, not a stream with an error in it.
        let first = try await service.status(of: name)
        return LineStream.response(to: request, from: Optional(first)) { [service] first in
            if let first { return (try LineStream.line(first), .some(nil)) }
            try await Task.sleep(for: interval)
            return (try LineStream.line(await service.status(of: name)), .some(nil))
        }
    }

    /// What is known so far, about each second, and at last the result.
    private func verify(_ request: Request, _ context: BasicRequestContext) async throws -> Response {
        let name = try vmName(context)
        // The stream watches the connection behind the body, which must be as it was read.
        var request = request
        let bytes = try await read(&request)
        let body: VerifyRequest = try decode(bytes, name) { $0.vm }
        let run = VerificationRun(service, body)
        // What is refused is no stream with an error in it.
        let first = try await run.next()
        return LineStream.response(to: request, from: Optional(first)) { first in
            let result: Verification
            if let first { result = first } else { result = try await run.next() }
            return (try LineStream.line(result), result.isOver ? nil : .some(nil))
        }
    }

    private func events(_ request: Request) async throws -> Response {
        let parameters = Query(request)
        let limits = EventQuery.limitRange
        var query = EventQuery(
            vm: try parameters.vmName(), kinds: parameters.words("kind").map { EventKind(rawValue: $0) },
            since: try parameters.date("since"), after: try parameters.unsigned("after", default: 0),
            limit: try parameters.integer("limit", limits, default: limits.upperBound))
        guard parameters.text("follow") == "1" else {
            query.newest = parameters.text("newest") == "1"
            let wait = Duration.milliseconds(try parameters.integer("wait_ms", 0...10_000, default: 0))
            return try reply(EventList(await service.events(query, wait: wait)))
        }
        return LineStream.response(to: request, from: query) { [service] query in
            let events = try await service.events(query, wait: Self.waitMax)
            // Nothing happened: an empty line finds out whether the client is still there.
            guard let last = events.last else { return (ByteBuffer(string: "\n"), query) }
            var lines = ByteBuffer()
            for event in events { lines.writeImmutableBuffer(try LineStream.line(event)) }
            var next = query
            next.after = last.id
            return (lines, next)
        }
    }

    // MARK: - requests and replies

    private func vmName(_ context: BasicRequestContext) throws -> VMName {
        try Query.name(context.parameters.get("vm") ?? "")
    }

    private func body<Body: Decodable>(
        _ request: Request, _ context: BasicRequestContext, _ name: VMName, _ named: (Body) -> VMName
    ) async throws -> Body {
        var request = request
        return try decode(try await read(&request), name, named)
    }

    private func decode<Body: Decodable>(_ bytes: ByteBuffer, _ name: VMName, _ named: (Body) -> VMName) throws -> Body
    {
        let body: Body = try decode(bytes)
        guard named(body) == name else {
            throw APIError(.badRequest, "the path is about “\(name)” and the body about “\(named(body))”")
        }
        return body
    }

    private func body<Body: Decodable>(_ request: Request, _ context: BasicRequestContext) async throws -> Body {
        var request = request
        return try decode(try await read(&request))
    }

    private func read(_ request: inout Request) async throws -> ByteBuffer {
        do {
            return try await request.collectBody(upTo: Self.requestBytesMax)
        } catch is NIOTooManyBytesError {
            throw APIError(.badRequest, "the request's body is larger than \(Self.requestBytesMax) bytes")
        }
    }

    private func decode<Body: Decodable>(_ bytes: ByteBuffer) throws -> Body {
        do {
            return try JSONCoding.decode(Body.self, from: Data(bytes.readableBytesView))
        } catch {
            throw APIError(.badRequest, "the request's body is not what is expected: \(JSONCoding.explain(error))")
        }
    }

    private func reply(_ value: some Encodable, status: HTTPResponse.Status = .ok) throws -> Response {
        Response(
            status: status, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try JSONCoding.encode(value))))
    }
}
