import Crypto
import FoundationEssentials
import Model
import SwiftASN1
import X509

/// Who this host is on a link, and whom it believes: its certificate, its key and the one authority.
public struct TLSIdentity: Sendable, CustomStringConvertible {
    public let node: NodeName
    public let facts: CertificateFacts
    public let authorityFacts: CertificateFacts
    /// The authority's and the node's certificate and the node's key (PKCS #8), each in DER. The key is a secret:
    /// for the TLS library only.
    public let authorityDER: [UInt8]
    public let certificateDER: [UInt8]
    public let privateKeyDER: [UInt8]
    private let authority: Certificate

    /// The side of a link that a peer plays.
    public enum Side: Sendable { case listener, dialer }

    /// Loads and checks the three files: all present, the key closed to others and belonging to the certificate, the
    /// certificate issued by the authority, both valid now and following the profile.
    public static func load(
        authority authorityPath: String, certificate certificatePath: String, key keyPath: String, now: Date = .now
    ) throws(PKIError) -> TLSIdentity {
        let authority = try PEM.certificate(at: authorityPath)
        let certificate = try PEM.certificate(at: certificatePath)
        let secret = try PEM.key(at: keyPath)
        try Check.authority(authority, path: authorityPath, now: now)
        guard certificate.publicKey == Certificate.PrivateKey(secret).publicKey else {
            throw .keyMismatch(certificate: certificatePath, key: keyPath)
        }
        guard Check.issued(certificate, by: authority) else {
            throw .otherAuthority(path: certificatePath, authority: authorityPath)
        }
        try Check.validity(certificate, path: certificatePath, now: now)
        let node: NodeName
        switch (Check.node(certificate, usage: .serverAuth), Check.node(certificate, usage: .clientAuth)) {
        case (.success(let name), .success): node = name
        case (.failure(let violation), _), (_, .failure(let violation)):
            throw .notANode(path: certificatePath, reason: violation.description)
        }
        return try TLSIdentity(
            node: node, authority: authority, authorityPath: authorityPath, certificate: certificate,
            certificatePath: certificatePath, secret: secret)
    }

    /// As `load(authority:certificate:key:)`, with the file names that `romulus pki` gives.
    public static func load(directory: String, node: NodeName, now: Date = .now) throws(PKIError) -> TLSIdentity {
        try load(
            authority: PrivateFiles.path(directory, Profile.authorityCertificateFile),
            certificate: PrivateFiles.path(directory, Profile.certificateFile(of: node)),
            key: PrivateFiles.path(directory, Profile.keyFile(of: node)), now: now)
    }

    private init(
        node: NodeName, authority: Certificate, authorityPath: String, certificate: Certificate,
        certificatePath: String, secret: P256.Signing.PrivateKey
    ) throws(PKIError) {
        self.node = node
        self.authority = authority
        facts = try CertificateFacts(certificate, path: certificatePath)
        authorityFacts = try CertificateFacts(authority, path: authorityPath)
        do {
            authorityDER = try PEM.der(authority)
            certificateDER = try PEM.der(certificate)
        } catch {
            throw .cryptography(operation: "encoding \(certificatePath)", reason: "\(error)")
        }
        privateKeyDER = Array(secret.derRepresentation)
    }

    /// The node that a peer's certificate names, provided that our authority issued it, it is valid at `now` and it is
    /// made for the side that the peer plays. `chain` is what the peer sent, in DER, its own certificate first; the
    /// others are not looked at. That the peer holds the key is TLS's own check.
    public func verify(
        peer chain: [[UInt8]], playing side: Side, now: Date = .now
    ) throws(PeerRefusal) -> NodeName {
        guard let first = chain.first else { throw .noCertificate }
        let certificate: Certificate
        do {
            certificate = try Certificate(derEncoded: first)
        } catch {
            throw .malformed(reason: "\(error)")
        }
        guard Check.issued(certificate, by: authority) else {
            throw .otherAuthority(issuer: certificate.issuer.description)
        }
        let node: NodeName
        switch Check.node(certificate, usage: side == .listener ? .serverAuth : .clientAuth) {
        case .success(let name): node = name
        case .failure(let violation): throw .wrongProfile(reason: violation.description)
        }
        for item in [certificate, authority] {
            let owner = item == authority ? "the authority" : node.description
            if now > item.notValidAfter { throw .expired(node: owner, at: item.notValidAfter) }
            if now < item.notValidBefore { throw .notYetValid(node: owner, from: item.notValidBefore) }
        }
        return node
    }

    public var description: String { "node \(node), authority \(authorityFacts.fingerprint.prefix(23))…" }
}
