import FoundationEssentials
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// One HTTP/1.1 request over the agent's unix socket, on a connection that is closed afterwards.
struct AgentConnection: Sendable {
    /// The most that an answer which is read whole may hold.
    static let replyBytesMax = 32 << 20
    /// The most that one line of a stream may hold.
    static let lineBytesMax = 1 << 20

    let socket: String

    typealias Client = NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>

    /// Sends one request and gives the body of a 2xx answer.
    func exchange(
        _ method: HTTPMethod, _ target: String, body: Data? = nil, timeout: Duration
    ) async throws(APIError) -> Data {
        try await request(method, target, body: body, timeout: timeout) { status, parts, _ throws(APIError) in
            var iterator = parts
            let data = try await readAll(&iterator)
            guard (200..<300).contains(status.code) else { throw error(status, data) }
            return data
        }
    }

    /// Sends a request and gives `line` each line of a 2xx answer as it comes, until it returns false or the answer ends.
    /// `timeout` bounds the time to the head of the answer, `silence` the time from one piece of it to the next.
    func lines(
        _ method: HTTPMethod, _ target: String, body: Data?, timeout: Duration, silence: Duration,
        _ line: (Data) async throws(APIError) -> Bool
    ) async throws(APIError) {
        try await request(method, target, body: body, timeout: timeout) { status, parts, timer throws(APIError) in
            var iterator = parts
            guard (200..<300).contains(status.code) else { throw error(status, try await readAll(&iterator)) }
            var pending = Data()
            timer.restart(silence)
            while let chunk = try await iterator.nextBody() {
                timer.cancel()
                defer { timer.restart(silence) }
                pending.append(contentsOf: chunk.readableBytesView)
                while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                    let whole = Data(pending[pending.startIndex..<end])
                    pending = Data(pending[pending.index(after: end)...])
                    guard try await line(whole) else { return }
                }
                guard pending.count <= Self.lineBytesMax else {
                    throw APIError(
                        .failed, "the agent at \(socket) sent a line of more than \(Self.lineBytesMax) bytes")
                }
            }
        }
    }

    // MARK: - the connection

    /// The parts of an answer after its head.
    struct Parts {
        var iterator: NIOAsyncChannelInboundStream<HTTPClientResponsePart>.AsyncIterator
        let timer: Timer
        let socket: String

        /// The next piece of the body; nil when the answer ended as it should.
        mutating func nextBody() async throws(APIError) -> ByteBuffer? {
            while true {
                switch try await next() {
                case .head: continue
                case .body(let buffer): return buffer
                case .end: return nil
                }
            }
        }

        /// The next part; never after `.end`.
        mutating func next() async throws(APIError) -> HTTPClientResponsePart {
            do {
                if let part = try await iterator.next() { return part }
            } catch {
                if Task.isCancelled { throw APIError(.failed, "interrupted") }
                if !timer.expired {
                    throw APIError(.failed, "the agent at \(socket) broke off its answer: \(error)")
                }
            }
            if Task.isCancelled { throw APIError(.failed, "interrupted") }
            throw timer.expired
                ? timer.error
                : APIError(.agentUnreachable, "the agent at \(socket) closed the connection before it answered in full")
        }
    }

    /// Closes the connection when the agent takes too long.
    final class Timer: Sendable {
        private struct State {
            var scheduled: Scheduled<Void>?
            var limit: Duration
        }

        private let channel: any Channel
        private let socket: String
        private let fired = Atomic(false)
        private let state: Mutex<State>

        init(_ channel: any Channel, _ timeout: Duration, socket: String) {
            self.channel = channel
            self.socket = socket
            state = Mutex(State(limit: timeout))
            restart(timeout)
        }

        var expired: Bool { fired.load(ordering: .relaxed) }

        var error: APIError {
            APIError(
                .timeout,
                "the agent at \(socket) did not answer within \(state.withLock { $0.limit }); "
                    + "it may be busy, see its log, or use --timeout")
        }

        func restart(_ limit: Duration) {
            cancel()
            let task = channel.eventLoop.scheduleTask(in: .milliseconds(limit.milliseconds)) { [self] in
                fired.store(true, ordering: .relaxed)
                channel.close(promise: nil)
            }
            state.withLock { $0 = State(scheduled: task, limit: limit) }
        }

        func cancel() {
            state.withLock { $0.scheduled }?.cancel()
        }
    }

    private func request<Value: Sendable>(
        _ method: HTTPMethod, _ target: String, body: Data?, timeout: Duration,
        _ answer: (HTTPResponseStatus, Parts, Timer) async throws(APIError) -> Value
    ) async throws(APIError) -> Value {
        let client = try await connect(timeout)
        let timer = Timer(client.channel, timeout, socket: socket)
        defer { timer.cancel() }
        // The agent closes the connection too, and may be first: what goes wrong after the answer is of no interest.
        var answered: Value?
        do {
            try await client.executeThenClose { inbound, outbound in
                var headers: HTTPHeaders = ["Host": "romulusd", "Connection": "close", "Accept": "*/*"]
                if let body {
                    headers.add(name: "Content-Type", value: "application/json")
                    headers.add(name: "Content-Length", value: String(body.count))
                }
                let head = HTTPRequestHead(version: .http1_1, method: method, uri: target, headers: headers)
                // In one write: the agent may answer, and close the connection, as soon as it has seen the head.
                let content = body.map { [HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: $0)))] } ?? []
                try await outbound.write(contentsOf: [.head(head)] + content + [.end(nil)])
                var parts = Parts(iterator: inbound.makeAsyncIterator(), timer: timer, socket: socket)
                while true {
                    if case .head(let head) = try await parts.next() {
                        answered = try await answer(head.status, parts, timer)
                        return
                    }
                }
            }
        } catch let error as APIError {
            throw error
        } catch {
            if let answered { return answered }
            if timer.expired { throw timer.error }
            throw APIError(.failed, "the connection to the agent at \(socket) failed: \(error)")
        }
        guard let answered else {
            throw APIError(.agentUnreachable, "the agent at \(socket) closed the connection before it answered in full")
        }
        return answered
    }

    private func connect(_ timeout: Duration) async throws(APIError) -> Client {
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(.milliseconds(timeout.milliseconds))
                .connect(unixDomainSocketPath: socket) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        return try Client(wrappingChannelSynchronously: channel)
                    }
                }
        } catch let error as IOError {
            throw APIError(.agentUnreachable, Self.explain(error.errnoCode, socket))
        } catch SocketAddressError.unixDomainSocketPathTooLong {
            throw APIError(.agentUnreachable, "the socket path \(socket) is too long: at most 107 bytes are possible")
        } catch {
            throw APIError(.agentUnreachable, "the agent at \(socket) cannot be reached: \(error)")
        }
    }

    static func explain(_ code: CInt, _ socket: String) -> String {
        switch code {
        case ENOENT, ENOTDIR:
            "no agent at \(socket): the socket does not exist; start romulusd (systemctl start romulusd) or name its socket with --socket"
        case ECONNREFUSED:
            "no agent at \(socket): nobody listens there any more; start romulusd (systemctl start romulusd) and see its log"
        case EACCES, EPERM:
            "the agent at \(socket) may not be asked by this user: join the group of the socket or use root"
        default:
            "the agent at \(socket) cannot be reached: \(String(cString: strerror(code)))"
        }
    }

    private func readAll(_ parts: inout Parts) async throws(APIError) -> Data {
        var data = Data()
        while let chunk = try await parts.nextBody() {
            data.append(contentsOf: chunk.readableBytesView)
            guard data.count <= Self.replyBytesMax else {
                throw APIError(.failed, "the agent at \(socket) answered with more than \(Self.replyBytesMax) bytes")
            }
        }
        return data
    }

    private func error(_ status: HTTPResponseStatus, _ body: Data) -> APIError {
        if let reply = try? JSONCoding.decode(ErrorReply.self, from: body) { return reply.error }
        return APIError(.failed, "the agent at \(socket) answered \(status.code) \(status.reasonPhrase)")
    }
}
