import Model
import NIOCore
import NIOPosix
import NIOSSL
import PKI
import Synchronization

/// Accepts links from the nodes that it allows.
public final class LinkListener: Sendable {
    /// The port that is listened on; chosen by the kernel when 0 was asked for.
    public let port: Int
    private let channel: any Channel
    private let policy: Policy

    private init(port: Int, channel: any Channel, policy: Policy) {
        self.port = port
        self.channel = channel
        self.policy = policy
    }

    /// Listens on `host:port`; returns when connections are accepted.
    ///
    /// - `allowed`: the nodes that may connect.
    /// - `group`: each link lives on the next event loop of it.
    /// - `refused`: told of each connection that was not approved, on an event loop; for the log.
    /// - `makeHandler`: called for each approved link, once however many connections it has, on its event loop, before the
    ///   first frame is delivered.
    public static func start(
        host: String, port: Int, identity: TLSIdentity, allowed: Set<NodeName>, group: any EventLoopGroup,
        options: LinkOptions = LinkOptions(), refused: @escaping @Sendable (LinkError) -> Void,
        makeHandler: @escaping @Sendable (Link) -> any LinkHandler
    ) async throws(LinkError) -> LinkListener {
        let address = addressText(host, port)
        let policy = try Policy(identity: identity, allowed: allowed, address: address)
        let waiting = Waiting(max: options.unauthenticatedMax)
        let streams = StreamRegistry()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: 64)
            .tuned()
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let (identity, tls) = policy.current
                    let verdict = PeerVerdict()
                    let tap = WireTap()
                    let driver = LinkChannel(
                        side: .listener(
                            opened: { link, isFurther in
                                waiting.remove(channel)
                                guard isFurther else { return makeHandler(link) }
                                let inlet = StreamInlet(registry: streams, timeout: options.handshakeTimeout)
                                inlet.watch(link)
                                return inlet
                            },
                            refused: { error in
                                waiting.remove(channel)
                                refused(error)
                            }, streams: streams),
                        tap: tap, verdict: verdict, options: options, address: addressText(channel.remoteAddress),
                        deadline: (.now() + TimeAmount(options.handshakeTimeout), options.handshakeTimeout))
                    try channel.pipeline.syncOperations.addHandlers([
                        tap,
                        NIOSSLServerHandler(context: tls) { chain, promise in
                            promise.succeed(
                                verdict.judge(chain, identity: identity, playing: .dialer) { node in
                                    policy.allows(node) ? nil : .notAllowed(node: node)
                                })
                        },
                        driver,
                    ])
                    waiting.add(channel)
                }
            }
        do {
            let channel = try await bootstrap.bind(host: host, port: port).get()
            return LinkListener(port: channel.localAddress?.port ?? port, channel: channel, policy: policy)
        } catch let error as IOError {
            throw LinkError(peer: address, .cannotListen(String(cString: strerror(error.errnoCode))))
        } catch {
            throw LinkError(peer: address, .cannotListen("\(error)"))
        }
    }

    /// Replaces what new connections are judged by, as after a new configuration or a renewed certificate. Links that
    /// exist go on; closing those of a node that is no longer allowed is the session's work.
    public func update(identity: TLSIdentity, allowed: Set<NodeName>) throws(LinkError) {
        try policy.update(identity: identity, allowed: allowed)
    }

    /// Stops accepting. Links that were made go on.
    public func shutdown() async {
        // Fails only when it is closed already.
        try? await channel.close().get()
    }
}

private final class Policy: Sendable {
    private struct State {
        var identity: TLSIdentity
        var tls: NIOSSLContext
        var allowed: Set<NodeName>
    }
    private let state: Mutex<State>
    private let address: String

    init(identity: TLSIdentity, allowed: Set<NodeName>, address: String) throws(LinkError) {
        self.address = address
        state = Mutex(State(identity: identity, tls: try Self.context(identity, address), allowed: allowed))
    }

    func update(identity: TLSIdentity, allowed: Set<NodeName>) throws(LinkError) {
        let tls = try Self.context(identity, address)
        state.withLock { $0 = State(identity: identity, tls: tls, allowed: allowed) }
    }

    var current: (TLSIdentity, NIOSSLContext) { state.withLock { ($0.identity, $0.tls) } }
    func allows(_ node: NodeName) -> Bool { state.withLock { $0.allowed.contains(node) } }

    private static func context(_ identity: TLSIdentity, _ address: String) throws(LinkError) -> NIOSSLContext {
        do { return try TLS.listenerContext(identity) } catch {
            throw LinkError(peer: address, .tls("this node's certificate or key was not accepted: \(error)"))
        }
    }
}

/// The accepted connections that are not approved yet, oldest first. When there are too many, the oldest goes: one
/// that fills the places with idle connections then cannot keep an honest peer out, whose handshake takes
/// milliseconds.
private final class Waiting: Sendable {
    private let max: Int
    private let channels = Mutex<[any Channel]>([])

    init(max: Int) { self.max = max }

    func add(_ channel: any Channel) {
        let oldest: (any Channel)? = channels.withLock {
            $0.append(channel)
            return $0.count > max ? $0.removeFirst() : nil
        }
        oldest?.pipeline.fireUserInboundEventTriggered(MakeRoom())
    }

    func remove(_ channel: any Channel) {
        channels.withLock { channels in
            guard let index = channels.firstIndex(where: { $0 === channel }) else { return }
            channels.remove(at: index)
        }
    }
}
