import Model
import NIOCore
import PKI
import Synchronization
import Transport
import Wire

/// The arbiter that is a witness: a `romulusd` on a third machine.
///
/// Keeps one link, made with the first request and anew after it broke. A request takes no longer than `timeout`,
/// connecting included. When a link that was there before breaks under a request, the request is sent once more over a
/// new one: its nonce makes that harmless.
public final class WitnessClient: Arbiter {
    private struct State {
        var current: Conversation?
        var dialing: Task<Result<Conversation, LinkError>, Never>?
        var lastID: UInt64 = 0
        var isClosed = false
    }

    /// `witness gamma at 10.0.0.3:7320`.
    public let name: String
    private let host: String
    private let port: Int
    private let node: NodeName
    private let identity: TLSIdentity
    private let memory: ArbiterMemory
    private let timeout: Duration
    private let group: any EventLoopGroup
    private let state = Mutex(State())

    /// `node` is the name that the witness's certificate must have.
    public init(
        host: String, port: Int, node: NodeName, identity: TLSIdentity, memory: ArbiterMemory,
        timeout: Duration = .seconds(1), group: any EventLoopGroup
    ) {
        name = "witness \(node) at \(host.contains(":") ? "[\(host)]" : host):\(port)"
        self.host = host
        self.port = port
        self.node = node
        self.identity = identity
        self.memory = memory
        self.timeout = timeout
        self.group = group
    }

    public func read(_ vm: VMName) async -> RegisterReading {
        switch await ask(vm, seen: memory.seen(vm), change: nil) {
        case .success(let reply) where reply.outcome == .value: .value(reply.register)
        case .success(let reply): .unknown("\(name) answered a reading with “\(reply.outcome.rawValue)”")
        case .failure(let reason): .unknown(reason.text)
        }
    }

    public func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer {
        let seen = max(memory.seen(vm), expected?.term ?? Term(0))
        switch await ask(vm, seen: seen, change: .init(expected: expected, new: new, nonce: nonce)) {
        case .success(let reply):
            switch reply.outcome {
            case .applied where reply.register == new: return .applied(new)
            case .conflict: return .conflict(reply.register)
            default: return .unknown("\(name) answered a change with “\(reply.outcome.rawValue)”")
            }
        case .failure(let reason): return .unknown(reason.text)
        }
    }

    public func close() async {
        let (current, dialing) = state.withLock { state in
            state.isClosed = true
            return (state.current, state.dialing)
        }
        current?.close()
        if case .success(let conversation) = await dialing?.value { conversation.close() }
    }

    // MARK: - Asking

    private struct Reason: Error { var text: String }

    /// The reply, when it comes from the store that this node trusts.
    private func ask(
        _ vm: VMName, seen: Term, change: RegisterRequest.Change?
    ) async -> Result<RegisterReply, Reason> {
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        let (reply, wasResent): (RegisterReply, Bool)
        do throws(LinkError) {
            (reply, wasResent) = try await exchange(RegisterRequest(id: id, vm: vm, seen: seen, change: change))
        } catch {
            return .failure(Reason(text: "\(name) gave no answer: \(error)"))
        }
        if reply.outcome == .refused {
            return .failure(Reason(text: "\(name) refused: \(reply.reason ?? "it gave no reason")"))
        }
        let found = reply.register?.term ?? Term(0)
        do throws(ArbiterMemoryError) {
            try await memory.accept(store: "witness store \(reply.store)", vm: vm, term: found, since: seen)
        } catch {
            return .failure(Reason(text: "\(name) is not used: \(error)"))
        }
        if wasResent, reply.outcome == .conflict {
            // Ours may have been there for a moment, before the change that is there now.
            return .failure(
                Reason(text: "\(name) left it open: an answer was lost, and \(vm) is at term \(found) since"))
        }
        return .success(reply)
    }

    private func exchange(
        _ request: RegisterRequest
    ) async throws(LinkError) -> (reply: RegisterReply, wasResent: Bool) {
        let deadline = NIODeadline.now() + TimeAmount(timeout)
        let frame = WitnessMessage.frame(request, RegisterRequest.type)
        let (first, isNew) = try await conversation(until: deadline)
        let result = await first.ask(frame, id: request.id, until: deadline)
        guard case .failure(let error) = result, !isNew, error.cause != .noAnswer(within: timeout) else {
            return (try result.get(), false)
        }
        let (second, _) = try await conversation(until: deadline)
        return (try await second.ask(frame, id: request.id, until: deadline).get(), true)
    }

    /// The open conversation, or a new one.
    private func conversation(
        until deadline: NIODeadline
    ) async throws(LinkError) -> (conversation: Conversation, isNew: Bool) {
        let left = Duration.nanoseconds(max(1, (deadline - .now()).nanoseconds))
        let (current, dialing): (Conversation?, Task<Result<Conversation, LinkError>, Never>?) = state.withLock {
            state in
            if state.isClosed { return (nil, nil) }
            if let current = state.current, current.isOpen { return (current, nil) }
            let dialing = state.dialing ?? Task { await self.dial(within: left) }
            state.dialing = dialing
            return (nil, dialing)
        }
        if let current { return (current, false) }
        guard let dialing else { throw LinkError(peer: name, .closed) }
        return (try await dialing.value.get(), true)
    }

    private func dial(within left: Duration) async -> Result<Conversation, LinkError> {
        let conversation = Conversation(loop: group.next(), timeout: timeout)
        let outcome: Result<Conversation, LinkError>
        do throws(LinkError) {
            conversation.start(
                try await LinkDialer.connect(
                    host: host, port: port, identity: identity, expectedPeer: node, timeout: left, group: group,
                    handler: conversation))
            outcome = .success(conversation)
        } catch {
            outcome = .failure(error)
        }
        state.withLock { state in
            state.dialing = nil
            if case .success = outcome { state.current = conversation }
        }
        return outcome
    }
}

/// One link to the witness and the requests that wait on it.
private final class Conversation: LinkHandler {
    private struct Waiting {
        var continuation: CheckedContinuation<Result<RegisterReply, LinkError>, Never>
        var timer: Scheduled<Void>
    }
    private struct State {
        var link: Link?
        var end: LinkError?
        var waiting: [UInt64: Waiting] = [:]
    }

    private let state = Mutex(State())
    private let loop: any EventLoop
    private let timeout: Duration

    init(loop: any EventLoop, timeout: Duration) {
        self.loop = loop
        self.timeout = timeout
    }

    var isOpen: Bool { state.withLock { $0.link != nil && $0.end == nil } }

    func start(_ link: Link) { state.withLock { $0.link = link } }

    func close() { state.withLock { $0.link }?.close() }

    func ask(_ frame: ByteBuffer, id: UInt64, until deadline: NIODeadline) async -> Result<RegisterReply, LinkError> {
        await withCheckedContinuation { continuation in
            let timer = loop.scheduleTask(deadline: deadline) { self.expire(id) }
            let link: Result<Link?, LinkError> = state.withLock { state in
                if let end = state.end { return .failure(end) }
                state.waiting[id] = Waiting(continuation: continuation, timer: timer)
                return .success(state.link)
            }
            switch link {
            case .success(let link): link?.send(frame)
            case .failure(let end):
                timer.cancel()
                continuation.resume(returning: .failure(end))
            }
            // The deadline may have come before the request was listed.
            if NIODeadline.now() >= deadline { expire(id) }
        }
    }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        guard header.type == RegisterReply.type, let reply = WitnessMessage.parse(RegisterReply.self, body) else {
            link.close(LinkError(peer: link.peerName, .unexpected("a \(header.type) frame came from the witness")))
            return
        }
        finish(reply.id, .success(reply))
    }

    func linkClosed(_ link: Link, error: LinkError?) {
        let end = error ?? LinkError(peer: link.peerName, .closed)
        let waiting = state.withLock { state in
            state.end = end
            let waiting = state.waiting.values
            state.waiting = [:]
            return waiting
        }
        for entry in waiting {
            entry.timer.cancel()
            entry.continuation.resume(returning: .failure(end))
        }
    }

    /// A witness that is late is asked again over a new connection: one that the network swallowed would be late for
    /// minutes.
    private func expire(_ id: UInt64) {
        guard let link = state.withLock({ $0.link }) else { return }
        let error = LinkError(peer: link.peerName, .noAnswer(within: timeout))
        if finish(id, .failure(error)) { link.close(error) }
    }

    @discardableResult
    private func finish(_ id: UInt64, _ result: Result<RegisterReply, LinkError>) -> Bool {
        guard let entry = state.withLock({ $0.waiting.removeValue(forKey: id) }) else { return false }
        entry.timer.cancel()
        entry.continuation.resume(returning: result)
        return true
    }
}
