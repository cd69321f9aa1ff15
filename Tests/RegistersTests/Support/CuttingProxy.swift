import NIOCore
import NIOPosix
import Synchronization

/// A TCP proxy on loopback that lets requests through and cuts the connection where a reply would come back: the server
/// did the work, and the client never hears.
final class CuttingProxy: Sendable {
    private struct State {
        /// Chunks from the server that still pass; nil: all of them.
        var repliesLeft: Int?
        /// After the cut: whether further connections are let through.
        var healsByItself = false
    }
    private let state = Mutex(State())
    private let server: Mutex<(any Channel)?>
    let port: Int

    init(to target: (host: String, port: Int), group: MultiThreadedEventLoopGroup) async throws {
        let slot = Mutex<CuttingProxy?>(nil)
        let box = Box(slot: slot)
        let channel = try await ServerBootstrap(group: group)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { client in
                guard let proxy = box.slot.withLock({ $0 }), proxy.mayPass else {
                    return client.eventLoop.makeFailedFuture(ChannelError.eof)
                }
                return ClientBootstrap(group: client.eventLoop)
                    .channelInitializer { server in
                        server.eventLoop.makeCompletedFuture {
                            try server.pipeline.syncOperations.addHandler(
                                Forwarder(to: client) { proxy.replyMayPass() })
                        }
                    }
                    .connect(host: target.host, port: target.port)
                    .flatMap { server in
                        client.eventLoop.makeCompletedFuture {
                            try client.pipeline.syncOperations.addHandler(Forwarder(to: server) { true })
                            try client.syncOptions?.setOption(.autoRead, value: true)
                        }
                    }
            }
            .bind(host: target.host, port: 0).get()
        port = channel.localAddress?.port ?? 0
        server = Mutex(channel)
        box.slot.withLock { $0 = self }
    }

    private final class Box: Sendable {
        let slot: Mutex<CuttingProxy?>
        init(slot: consuming Mutex<CuttingProxy?>) { self.slot = slot }
    }

    /// Lets `replies` more chunks from the server through and cuts at the one after them; then nothing passes until
    /// `heal`, or everything when it `healsByItself`.
    func cut(after replies: Int, healsByItself: Bool = false) {
        state.withLock { $0 = State(repliesLeft: replies, healsByItself: healsByItself) }
    }

    func heal() { state.withLock { $0 = State() } }

    func close() async throws { try await server.withLock { $0.take() }?.close().get() }

    private var mayPass: Bool { state.withLock { $0.repliesLeft.map { $0 >= 0 } ?? true } }

    private func replyMayPass() -> Bool {
        state.withLock { state in
            guard let left = state.repliesLeft else { return true }
            state.repliesLeft = left - 1
            if left <= 0, state.healsByItself { state = State() }
            return left > 0
        }
    }
}

private final class Forwarder: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let other: any Channel
    private let mayPass: @Sendable () -> Bool

    init(to other: any Channel, mayPass: @escaping @Sendable () -> Bool) {
        self.other = other
        self.mayPass = mayPass
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard mayPass() else {
            context.close(promise: nil)
            return
        }
        other.writeAndFlush(unwrapInboundIn(data), promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
}
