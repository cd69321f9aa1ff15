import Dispatch
import Model
import NIOCore
import PKI
import Synchronization
import Transport
import Wire

/// Serves a witness's store to the nodes that may use it, over links like those between agents: TLS 1.3, both
/// certificates checked, frames with caps.
///
/// A node has at most `linksPerNodeMax` links, of which the oldest makes room for a newer one; each link is read again
/// only when its last request was answered. So what nodes can make the witness hold is bounded.
public final class WitnessServer: Sendable {
    static let linksPerNodeMax = 4

    /// What happened, for the log and the metrics. Called on any thread.
    public enum Report: Sendable {
        case refused(LinkError)
        /// A reading.
        case read(VMName, node: NodeName)
        case changed(VMName, Register, node: NodeName)
        case conflict(VMName, node: NodeName)
        /// A node saw a higher term than the store has.
        case amnesic(VMName, node: NodeName, seen: Term, found: Term)
        case failed(WitnessStoreError)
        /// A node asked about a VM that is none of its business.
        case denied(VMName, node: NodeName)
    }

    public var port: Int { listener.port }
    private let listener: LinkListener
    private let desk: Desk

    private init(listener: LinkListener, desk: Desk) {
        self.listener = listener
        self.desk = desk
    }

    /// Listens on `host:port` (0 lets the kernel choose) for `nodes`. Who may ask about a VM, and own it, can be narrowed
    /// down by `rights`; of VMs that are not named there all nodes may.
    public static func start(
        store: WitnessStore, host: String, port: Int, identity: TLSIdentity, nodes: Set<NodeName>,
        rights: [VMName: Set<NodeName>] = [:], group: any EventLoopGroup, options: LinkOptions = LinkOptions(),
        report: @escaping @Sendable (Report) -> Void
    ) async throws(LinkError) -> WitnessServer {
        let desk = Desk(store: store, rights: rights, report: report)
        let listener = try await LinkListener.start(
            host: host, port: port, identity: identity, allowed: nodes, group: group, options: options,
            refused: { report(.refused($0)) },
            makeHandler: { link in
                desk.add(link)
                return Asker(desk: desk)
            })
        return WitnessServer(listener: listener, desk: desk)
    }

    /// Stops accepting and ends the links there are.
    public func shutdown() async {
        await listener.shutdown()
        desk.closeAll()
    }
}

/// One link's requests.
private final class Asker: LinkHandler {
    private let desk: Desk
    init(desk: Desk) { self.desk = desk }

    func link(_ link: Link, received header: FrameHeader, body: ByteBuffer) {
        guard header.type == RegisterRequest.type else {
            link.close(LinkError(peer: link.peerName, .unexpected("a \(header.type) frame came to a witness")))
            return
        }
        link.pauseReading()
        desk.take(body, from: link)
    }

    func linkClosed(_ link: Link, error: LinkError?) { desk.remove(link) }
}

/// Where requests of all links are answered, one after the other, on a thread that may block.
private final class Desk: Sendable {
    private let store: WitnessStore
    private let rights: [VMName: Set<NodeName>]
    private let report: @Sendable (WitnessServer.Report) -> Void
    private let queue = DispatchQueue(label: "witness")
    /// Oldest first.
    private let links = Mutex<[Link]>([])

    init(
        store: WitnessStore, rights: [VMName: Set<NodeName>], report: @escaping @Sendable (WitnessServer.Report) -> Void
    ) {
        self.store = store
        self.rights = rights
        self.report = report
    }

    func add(_ link: Link) {
        let oldest = links.withLock { links -> Link? in
            links.append(link)
            let same = links.filter { $0.peerNode == link.peerNode }
            return same.count > WitnessServer.linksPerNodeMax ? same[0] : nil
        }
        oldest?.close()
    }

    func remove(_ link: Link) { links.withLock { $0.removeAll { $0 === link } } }

    func closeAll() { for link in links.withLock({ $0 }) { link.close() } }

    func take(_ body: ByteBuffer, from link: Link) {
        queue.async { [self] in
            guard let request = WitnessMessage.parse(RegisterRequest.self, body) else {
                link.close(LinkError(peer: link.peerName, .unexpected("a request cannot be read")))
                return
            }
            var reply = RegisterReply(id: request.id, store: store.identity, outcome: .refused)
            do throws(WitnessStoreError) {
                try answer(request, of: link.peerNode, &reply)
            } catch {
                report(.failed(error))
                reply.reason = "\(error)"
            }
            link.send(WitnessMessage.frame(reply, RegisterReply.type))
            link.resumeReading()
        }
    }

    private func answer(
        _ request: RegisterRequest, of node: NodeName, _ reply: inout RegisterReply
    ) throws(WitnessStoreError) {
        let vm = request.vm
        if let allowed = rights[vm],
            !allowed.contains(node) || request.change.map({ !allowed.contains($0.new.owner) }) == true
        {
            report(.denied(vm, node: node))
            let owners = allowed.sorted().map(\.description).joined(separator: ", ")
            reply.reason = "\(vm) belongs to \(owners) there, not to \(node)"
            return
        }
        guard let change = request.change else {
            reply.register = try store.read(vm)
            let found = reply.register?.term ?? Term(0)
            reply.outcome = found < request.seen ? .amnesic : .value
            report(
                found < request.seen
                    ? .amnesic(vm, node: node, seen: request.seen, found: found) : .read(vm, node: node))
            return
        }
        switch try store.compareAndSet(
            vm, expecting: change.expected, to: change.new, nonce: change.nonce, seen: request.seen)
        {
        case .applied(let register):
            (reply.outcome, reply.register) = (.applied, register)
            report(.changed(vm, register, node: node))
        case .conflict(let register):
            (reply.outcome, reply.register) = (.conflict, register)
            report(.conflict(vm, node: node))
        case .amnesic(let register):
            (reply.outcome, reply.register) = (.amnesic, register)
            report(.amnesic(vm, node: node, seen: request.seen, found: register?.term ?? Term(0)))
        }
    }
}
