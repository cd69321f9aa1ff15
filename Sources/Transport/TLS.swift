import Model
import NIOCore
import NIOPosix
import NIOSSL
import PKI
import Synchronization

/// What this side found about the peer's certificate; filled in during the handshake.
final class PeerVerdict: Sendable {
    private let slot = Mutex<Result<NodeName, LinkError.Cause>?>(nil)

    var value: Result<NodeName, LinkError.Cause>? { slot.withLock { $0 } }

    /// Judges the certificates that the peer sent, its own first.
    func judge(
        _ chain: [NIOSSLCertificate], identity: TLSIdentity, playing side: TLSIdentity.Side,
        accept: (NodeName) -> LinkError.Cause?
    ) -> NIOSSLVerificationResult {
        let verdict: Result<NodeName, LinkError.Cause>
        do throws(PeerRefusal) {
            let node = try identity.verify(peer: chain.prefix(1).compactMap { try? $0.toDERBytes() }, playing: side)
            verdict = accept(node).map(Result.failure) ?? .success(node)
        } catch {
            verdict = .failure(.peerCertificate(error))
        }
        slot.withLock { $0 = verdict }
        return if case .success = verdict { .certificateVerified } else { .failed }
    }
}

enum TLS {
    /// What a dialer calls the further connections of a link, as the name of an application protocol (RFC 7301).
    static let furtherConnection = "romulus-stream"

    static func listenerContext(_ identity: TLSIdentity) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: [.certificate(try NIOSSLCertificate(bytes: identity.certificateDER, format: .der))],
            privateKey: .privateKey(try NIOSSLPrivateKey(bytes: identity.privateKeyDER, format: .der)))
        configuration.applicationProtocols = [furtherConnection]
        try restrict(&configuration, identity)
        return try NIOSSLContext(configuration: configuration)
    }

    static func dialerContext(_ identity: TLSIdentity, isFurther: Bool) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if isFurther { configuration.applicationProtocols = [furtherConnection] }
        configuration.certificateChain = [
            .certificate(try NIOSSLCertificate(bytes: identity.certificateDER, format: .der))
        ]
        configuration.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: identity.privateKeyDER, format: .der))
        try restrict(&configuration, identity)
        return try NIOSSLContext(configuration: configuration)
    }

    /// TLS 1.3 only, and a certificate demanded from the peer. The verdict on it is `TLSIdentity.verify`'s, put in
    /// place of the library's own by a callback; host names play no part.
    private static func restrict(_ configuration: inout TLSConfiguration, _ identity: TLSIdentity) throws {
        configuration.minimumTLSVersion = .tlsv13
        configuration.certificateVerification = .noHostnameVerification
        configuration.trustRoots = .certificates([try NIOSSLCertificate(bytes: identity.authorityDER, format: .der)])
        configuration.renegotiationSupport = .none
        // `LinkOptions.closeTimeout` is shorter in all sensible uses; this is the last resort.
        configuration.shutdownTimeout = .seconds(5)
    }
}

extension LinkError.Cause {
    /// What NIO or TLS threw, in our words. `verdict` is what our own check of the peer's certificate said.
    init(_ error: any Error, verdict: Result<NodeName, LinkError.Cause>?) {
        switch error {
        case let error as LinkError.Cause:
            self = error
        case let error as LinkError:
            self = error.cause
        case NIOSSLError.handshakeFailed(let inner):
            if case .failure(let cause)? = verdict { self = cause } else { self = Self.tls(inner) }
        case let error as BoringSSLError:
            self = Self.tls(error)
        case let error as IOError:
            self = Self.system(error)
        case let error as NIOConnectionError:
            self = Self.connection(error)
        case ChannelError.connectTimeout(let amount):
            self = .timedOut(.connecting, after: .nanoseconds(amount.nanoseconds))
        default:
            self = .lost("\(error)")
        }
    }

    private static func tls(_ error: BoringSSLError) -> Self {
        guard case .sslError(let stack) = error else { return .tls("\(error)") }
        let words = stack.map(\.description)
        for (sign, cause) in signs where words.contains(where: { $0.contains(sign) }) { return cause }
        // “Error: 268436526 error:1000042e:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA at ….cc:123”
        let reason = words.first?.split(separator: ":").first { $0.contains(" at ") }?.split(separator: " ").first
        guard let parts = reason?.lowercased().split(separator: "_") else { return .tls(words.joined(separator: "; ")) }
        guard let alert = parts.firstIndex(of: "alert") else { return .tls(parts.joined(separator: " ")) }
        let text = parts[(alert + 1)...].joined(separator: " ")
        let ours = text.contains("certificate") || text == "unknown ca" || text == "access denied"
        return ours ? .refusedByPeer(text) : .tls("the other side says: \(text)")
    }

    /// Names of BoringSSL's reasons (`ssl_errors`), as they stand in its error texts.
    private static let signs: [(String, Self)] = [
        ("EOF during handshake", .lost("it closed the connection during the handshake")),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", .peerCertificate(.noCertificate)),
        ("UNSUPPORTED_PROTOCOL", .tlsVersion),
        ("ALERT_PROTOCOL_VERSION", .tlsVersion),
        ("DECRYPTION_FAILED", .tls("a record was changed on its way")),
        ("WRONG_VERSION_NUMBER", .notTLS),
        ("HTTP_REQUEST", .notTLS),
        ("HTTPS_PROXY_REQUEST", .notTLS),
    ]

    private static func system(_ error: IOError) -> Self {
        switch error.errnoCode {
        case ECONNREFUSED: .refused
        case EHOSTUNREACH, ENETUNREACH, ENETDOWN, EADDRNOTAVAIL, EACCES, EPERM, EINVAL:
            .unreachable(String(cString: strerror(error.errnoCode)))
        case ETIMEDOUT: .lost("it no longer answers")
        default: .lost(String(cString: strerror(error.errnoCode)))
        }
    }

    private static func connection(_ error: NIOConnectionError) -> Self {
        let causes = error.connectionErrors.map { Self($0.error, verdict: nil) }
        // Of several addresses, one where a host answered tells most.
        if causes.contains(.refused) { return .refused }
        if let first = causes.first { return first }
        let reason = error.dnsAError ?? error.dnsAAAAError
        return .unresolved(reason.map { "\($0)" } ?? "no answer")
    }
}
