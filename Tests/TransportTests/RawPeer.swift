import NIOCore
import NIOPosix
import NIOSSL
import PKI
import Transport

/// A peer that speaks TCP or TLS but keeps to none of the rules above them.
final class RawPeer: Sendable {
    /// What came after the handshake, then nil at the end.
    let received: Mailbox<ByteBuffer?>
    let errors: Mailbox<any Error>
    private let channel: any Channel

    private init(_ channel: any Channel, _ received: Mailbox<ByteBuffer?>, _ errors: Mailbox<any Error>) {
        self.channel = channel
        self.received = received
        self.errors = errors
    }

    /// A plain connection.
    static func plain(_ group: MultiThreadedEventLoopGroup, port: Int) async throws -> RawPeer {
        try await connect(group, port: port, tls: nil)
    }

    /// A TLS connection that is up when this returns; `identity` nil shows no certificate.
    static func tls(
        _ group: MultiThreadedEventLoopGroup, port: Int, identity: TLSIdentity?, maximum: TLSVersion? = nil,
        protocols: [String] = []
    ) async throws -> RawPeer {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .none
        configuration.maximumTLSVersion = maximum
        configuration.applicationProtocols = protocols
        if let identity { try configuration.show(identity) }
        return try await connect(group, port: port, tls: NIOSSLContext(configuration: configuration))
    }

    private static func connect(
        _ group: MultiThreadedEventLoopGroup, port: Int, tls: NIOSSLContext?
    ) async throws -> RawPeer {
        let (received, errors) = (Mailbox<ByteBuffer?>(), Mailbox<any Error>())
        let channel = try await ClientBootstrap(group: group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                if let tls {
                    let handler = try NIOSSLClientHandler(context: tls, serverHostname: nil)
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
                try channel.pipeline.syncOperations.addHandler(Ear(received, errors))
            }
        }.connect(host: "127.0.0.1", port: port).get()
        return RawPeer(channel, received, errors)
    }

    func write(_ bytes: ByteBuffer) async throws { try await channel.writeAndFlush(bytes).get() }
    func writeIgnoringErrors(_ bytes: ByteBuffer) { channel.writeAndFlush(bytes, promise: nil) }

    /// With TLS's farewell.
    func close() { channel.close(promise: nil) }

    /// As the kernel does for a process that was killed.
    func die() async throws {
        try await channel.eventLoop.submit { [channel] in
            if let tls = try? channel.pipeline.syncOperations.context(handlerType: NIOSSLClientHandler.self) {
                tls.close(promise: nil)
            } else {
                channel.close(promise: nil)
            }
        }.get()
    }

    private final class Ear: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let received: Mailbox<ByteBuffer?>
        private let errors: Mailbox<any Error>
        init(_ received: Mailbox<ByteBuffer?>, _ errors: Mailbox<any Error>) {
            self.received = received
            self.errors = errors
        }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { received.put(unwrapInboundIn(data)) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { errors.put(error) }
        func channelInactive(context: ChannelHandlerContext) { received.put(nil) }
    }
}

/// A listener that does as it is told; `tls` nil accepts and stays silent.
func rawListener(
    _ group: MultiThreadedEventLoopGroup, tls: TLSConfiguration?, greeting: ByteBuffer? = nil
) async throws -> any Channel {
    let context = try tls.map { try NIOSSLContext(configuration: $0) }
    return try await ServerBootstrap(group: group).childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
            if let context {
                try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
            }
            if let greeting { channel.writeAndFlush(greeting, promise: nil) }
        }
    }.bind(host: "127.0.0.1", port: 0).get()
}

extension TLSConfiguration {
    mutating func show(_ identity: TLSIdentity) throws {
        certificateChain = [.certificate(try NIOSSLCertificate(bytes: identity.certificateDER, format: .der))]
        privateKey = .privateKey(try NIOSSLPrivateKey(bytes: identity.privateKeyDER, format: .der))
    }

    static func server(_ identity: TLSIdentity) throws -> TLSConfiguration {
        var result = TLSConfiguration.makeServerConfiguration(
            certificateChain: [.certificate(try NIOSSLCertificate(bytes: identity.certificateDER, format: .der))],
            privateKey: .privateKey(try NIOSSLPrivateKey(bytes: identity.privateKeyDER, format: .der)))
        result.certificateVerification = .none
        return result
    }
}

/// A connection to `port` through which bytes pass unchanged until byte number `at` towards the listener, which comes
/// out with one bit flipped.
func flippingProxy(_ group: MultiThreadedEventLoopGroup, to port: Int, at position: Int) async throws -> any Channel {
    try await ServerBootstrap(group: group).childChannelInitializer { near in
        // One loop for both halves, so that they may touch each other.
        ClientBootstrap(group: near.eventLoop).channelInitializer { far in
            far.eventLoop.makeCompletedFuture {
                try near.pipeline.syncOperations.addHandler(Pipe(to: far, flipping: position))
                try far.pipeline.syncOperations.addHandler(Pipe(to: near, flipping: nil))
            }
        }.connect(host: "127.0.0.1", port: port).map { _ in }
    }.bind(host: "127.0.0.1", port: 0).get()
}

private final class Pipe: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let other: any Channel
    private var left: Int?

    init(to other: any Channel, flipping position: Int?) {
        self.other = other
        left = position
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if let position = left {
            let index = bytes.readerIndex + position
            if let byte = bytes.getInteger(at: index, as: UInt8.self), position < bytes.readableBytes {
                bytes.setInteger(byte ^ 1, at: index)
                left = nil
            } else {
                left = position - bytes.readableBytes
            }
        }
        other.writeAndFlush(bytes, promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
