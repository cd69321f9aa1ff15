import Model
import NIOCore
import NIOPosix
import NIOSSL
import PKI
import Synchronization
import Wire

/// Makes links to listeners.
public enum LinkDialer {
    /// Connects to `host:port`, and returns when both sides approved each other. The whole of it takes no longer than
    /// `timeout`. `expectedPeer` is the node that must answer there.
    ///
    /// The link lives on the next event loop of `group`. `handler` may be called before this returns. With more than one of
    /// `connections`, up to `connectionsMax`, each lives on an event loop of its own as far as there are some, and they act as
    /// one link: large frames that are queued at this side are spread over them, what the other side sends comes over the
    /// first. When one of them cannot be made or ends, so does the link.
    public static func connect(
        host: String, port: Int, identity: TLSIdentity, expectedPeer: NodeName, timeout: Duration,
        group: any EventLoopGroup, options: LinkOptions = LinkOptions(), connections: Int = 1, handler: any LinkHandler
    ) async throws(LinkError) -> Link {
        let deadline = (at: NIODeadline.now() + TimeAmount(timeout), timeout: timeout)
        func connect(_ handler: any LinkHandler, isFurther: Bool) async throws(LinkError) -> Link {
            try await one(
                host: host, port: port, identity: identity, expectedPeer: expectedPeer, deadline: deadline,
                group: group, options: options, isFurther: isFurther, handler: handler)
        }
        let link = try await connect(handler, isFurther: false)
        guard connections > 1 else { return link }
        precondition(connections <= connectionsMax, "a link has at most \(connectionsMax) connections")
        let key = StreamKey.random()
        link.send(Join(key: key, stream: 0).frame)
        do throws(LinkError) {
            for stream in 1..<UInt8(connections) {
                let further = try await connect(StreamOutlet(of: link), isFurther: true)
                link.count(further.counters)
                let join = Join(key: key, stream: stream).frame
                link.queue.hold(join.readableBytes)
                further.send(join)
                link.streams.add(further)
            }
        } catch {
            link.close(error)
            throw error
        }
        return link
    }

    /// Of one link.
    public static let connectionsMax = 1 + IncomingStreams.countMax

    private static func one(
        host: String, port: Int, identity: TLSIdentity, expectedPeer: NodeName,
        deadline: (at: NIODeadline, timeout: Duration), group: any EventLoopGroup, options: LinkOptions,
        isFurther: Bool, handler: any LinkHandler
    ) async throws(LinkError) -> Link {
        let (address, timeout) = (addressText(host, port), deadline.timeout)
        let tls: NIOSSLContext
        do {
            tls = try TLS.dialerContext(identity, isFurther: isFurther)
        } catch {
            throw LinkError(peer: address, .tls("this node's certificate or key was not accepted: \(error)"))
        }
        let attempts = Attempts()
        let bootstrap = ClientBootstrap(group: group)
            .connectTimeout(TimeAmount(timeout))
            .tuned()
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let opened = channel.eventLoop.makePromise(of: Link.self)
                    let verdict = PeerVerdict()
                    let tap = WireTap()
                    let driver = LinkChannel(
                        side: .dialer(handler: handler, opened: opened), tap: tap, verdict: verdict, options: options,
                        address: address, deadline: deadline)
                    attempts.add(channel, opened.futureResult)
                    try channel.pipeline.syncOperations.addHandlers([
                        tap,
                        try NIOSSLClientHandler(context: tls, serverHostname: nil) { chain, promise in
                            promise.succeed(
                                verdict.judge(chain, identity: identity, playing: .listener) { node in
                                    node == expectedPeer ? nil : .wrongPeer(expected: expectedPeer, found: node)
                                })
                        },
                        driver,
                    ])
                }
            }
        do {
            return try await withTaskCancellationHandler {
                let channel = try await bootstrap.connect(host: host, port: port).get()
                return try await attempts.result(of: channel).get()
            } onCancel: {
                attempts.cancel()
            }
        } catch {
            if attempts.isCancelled { throw LinkError(peer: address, .cancelled) }
            if let error = error as? LinkError { throw error }
            // Before TCP is up, the channel's own deadline and NIO's run side by side.
            let late = NIODeadline.now() >= deadline.at
            throw LinkError(
                peer: address, late ? .timedOut(.connecting, after: timeout) : .init(error, verdict: nil))
        }
    }
}

/// The connections of one attempt: a host name may have several addresses, which are tried side by side.
private final class Attempts: Sendable {
    private struct State {
        var cancelled = false
        var channels: [(channel: any Channel, opened: EventLoopFuture<Link>)] = []
    }
    private let state = Mutex(State())

    func add(_ channel: any Channel, _ opened: EventLoopFuture<Link>) {
        let cancelled = state.withLock {
            $0.channels.append((channel, opened))
            return $0.cancelled
        }
        if cancelled { channel.close(promise: nil) }
    }

    /// `channel` was connected, so its initialiser added it.
    func result(of channel: any Channel) -> EventLoopFuture<Link> {
        state.withLock { state in
            guard let attempt = state.channels.first(where: { $0.channel === channel }) else {
                fatalError("a connected channel was not initialised")
            }
            return attempt.opened
        }
    }

    var isCancelled: Bool { state.withLock { $0.cancelled } }

    func cancel() {
        let channels = state.withLock {
            $0.cancelled = true
            return $0.channels
        }
        for (channel, _) in channels { channel.close(promise: nil) }
    }
}

func addressText(_ host: String, _ port: Int) -> String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

func addressText(_ address: SocketAddress?) -> String {
    guard let address, let ip = address.ipAddress, let port = address.port else { return "unknown address" }
    return addressText(ip, port)
}

/// What both ends set on a connection's socket.
///
/// Small frames leave at once (`TCP_NODELAY`). Keep-alive finds a dead host below an idle link; `TCP_USER_TIMEOUT` is
/// not set, because it would also end a link whose reader merely pauses (tcp(7): buffered data that stays
/// untransmitted for a zero window counts too). Judging silence is the session's work.
///
/// The kernel takes no more than `unsentMax` bytes ahead of what it sends (`TCP_NOTSENT_LOWAT`): else megabytes would lie there
/// on a slow link, where nobody counts them, and small frames behind them.
///
/// One read takes up to 1 MiB: measured to cost a quarter less than 256 KiB on loopback, and not to slow small frames.
enum Tuning {
    static let readBytes = 1024 << 10
    static let waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 128 << 10, high: 512 << 10)
    private static let unsentMax: ChannelOptions.Types.SocketOption.Value = 256 << 10
    static let tcpOptions: [(NIOBSDSocket.Option, ChannelOptions.Types.SocketOption.Value)] = [
        (NIOBSDSocket.Option(rawValue: TCP_KEEPIDLE), 10), (NIOBSDSocket.Option(rawValue: TCP_KEEPINTVL), 5),
        (NIOBSDSocket.Option(rawValue: TCP_KEEPCNT), 3),
        (NIOBSDSocket.Option(rawValue: TCP_NOTSENT_LOWAT), unsentMax),
    ]
}

extension ClientBootstrap {
    func tuned() -> ClientBootstrap {
        var bootstrap = channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Tuning.readBytes))
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.writeBufferWaterMark, value: Tuning.waterMark)
        for (option, value) in Tuning.tcpOptions {
            bootstrap = bootstrap.channelOption(.tcpOption(option), value: value)
        }
        return bootstrap
    }
}

extension ServerBootstrap {
    func tuned() -> ServerBootstrap {
        var bootstrap = childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Tuning.readBytes))
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(.writeBufferWaterMark, value: Tuning.waterMark)
        for (option, value) in Tuning.tcpOptions {
            bootstrap = bootstrap.childChannelOption(.tcpOption(option), value: value)
        }
        return bootstrap
    }
}
