import Crypto
import FoundationEssentials
import Glibc
import Model
import SwiftASN1
import X509

/// The authority of one pair (or group) of hosts: its certificate, its key, and the making of nodes' certificates.
public struct CertificateAuthority: Sendable {
    public let directory: String
    public let facts: CertificateFacts
    let certificate: Certificate
    let key: Certificate.PrivateKey

    /// Makes a new authority: `ca.crt` (0644) and `ca.key` (0600) in `directory`, which is made with mode 0700 when it
    /// is missing. Existing files are never overwritten.
    public static func create(
        directory: String, name: String = "Romulus", days: Int = Profile.authorityDays, now: Date = .now
    ) throws(PKIError) -> CertificateAuthority {
        guard (1...Profile.daysMax).contains(days) else { throw .badValidity(days: days) }
        let secret = P256.Signing.PrivateKey()
        let key = Certificate.PrivateKey(secret)
        let certificate: Certificate
        do {
            let subject = try DistinguishedName {
                OrganizationName("Romulus")
                CommonName("\(name) certificate authority")
            }
            certificate = try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(),
                publicKey: key.publicKey,
                notValidBefore: now.addingTimeInterval(-Profile.backdatingSeconds),
                notValidAfter: now.addingTimeInterval(Double(days) * Profile.secondsPerDay),
                issuer: subject,
                subject: subject,
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: key.publicKey)
                },
                issuerPrivateKey: key)
        } catch {
            throw .cryptography(operation: "making the authority's certificate", reason: "\(error)")
        }
        try PrivateFiles.makeDirectory(directory)
        try writePair(
            certificate, at: PrivateFiles.path(directory, Profile.authorityCertificateFile),
            secret, at: PrivateFiles.path(directory, Profile.authorityKeyFile))
        return try open(directory: directory, now: now)
    }

    /// Loads the authority that `create` made.
    public static func open(directory: String, now: Date = .now) throws(PKIError) -> CertificateAuthority {
        let path = PrivateFiles.path(directory, Profile.authorityCertificateFile)
        let keyPath = PrivateFiles.path(directory, Profile.authorityKeyFile)
        let certificate = try PEM.certificate(at: path)
        let secret = try PEM.key(at: keyPath)
        try Check.authority(certificate, path: path, now: now)
        let key = Certificate.PrivateKey(secret)
        guard certificate.publicKey == key.publicKey else { throw .keyMismatch(certificate: path, key: keyPath) }
        return CertificateAuthority(
            directory: directory, facts: try CertificateFacts(certificate, path: path), certificate: certificate,
            key: key)
    }

    /// What `issue` wrote.
    public struct Issued: Sendable {
        public let certificatePath: String
        public let keyPath: String
        public let facts: CertificateFacts
    }

    /// Makes `NODE.crt` (0644) and `NODE.key` (0600) in `output`, or beside the authority's files when that is nil.
    /// `addresses` are IP addresses or DNS names. The certificate does not outlive the authority's.
    public func issue(
        node: NodeName, addresses: [String] = [], days: Int = Profile.nodeDays, into output: String? = nil,
        now: Date = .now
    ) throws(PKIError) -> Issued {
        guard (1...Profile.daysMax).contains(days) else { throw .badValidity(days: days) }
        guard addresses.count < Profile.alternativeNamesMax else {
            throw .badAlternativeName(addresses[addresses.count - 1])
        }
        var names: [GeneralName] = [.uniformResourceIdentifier(Profile.nodePrefix + node.description)]
        for address in addresses { names.append(try alternativeName(address)) }
        let secret = P256.Signing.PrivateKey()
        let publicKey = Certificate.PrivateKey(secret).publicKey
        let issued: Certificate
        do {
            issued = try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(),
                publicKey: publicKey,
                notValidBefore: now.addingTimeInterval(-Profile.backdatingSeconds),
                notValidAfter: min(
                    now.addingTimeInterval(Double(days) * Profile.secondsPerDay), certificate.notValidAfter),
                issuer: certificate.subject,
                subject: try DistinguishedName {
                    OrganizationName("Romulus")
                    CommonName(node.description)
                },
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage([.serverAuth, .clientAuth])
                    SubjectAlternativeNames(names)
                    SubjectKeyIdentifier(hash: publicKey)
                    AuthorityKeyIdentifier(keyIdentifier: SubjectKeyIdentifier(hash: key.publicKey).keyIdentifier)
                },
                issuerPrivateKey: key)
        } catch {
            throw .cryptography(operation: "making the certificate of \(node)", reason: "\(error)")
        }
        let target = output ?? directory
        try PrivateFiles.makeDirectory(target)
        let certificatePath = PrivateFiles.path(target, Profile.certificateFile(of: node))
        let keyPath = PrivateFiles.path(target, Profile.keyFile(of: node))
        try Self.writePair(issued, at: certificatePath, secret, at: keyPath)
        return Issued(
            certificatePath: certificatePath, keyPath: keyPath,
            facts: try CertificateFacts(issued, path: certificatePath))
    }

    /// Writes both files or none.
    private static func writePair(
        _ certificate: Certificate, at path: String, _ secret: P256.Signing.PrivateKey, at keyPath: String
    ) throws(PKIError) {
        let text: String
        do { text = try certificate.serializeAsPEM().pemString + "\n" } catch {
            throw .cryptography(operation: "writing \(path)", reason: "\(error)")
        }
        try PrivateFiles.create(path, text, mode: 0o644)
        do throws(PKIError) {
            try PrivateFiles.create(keyPath, secret.pemRepresentation + "\n", mode: 0o600)
        } catch {
            unlink(path)
            throw error
        }
    }

    private func alternativeName(_ text: String) throws(PKIError) -> GeneralName {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            return .ipAddress(ASN1OctetString(contentBytes: withUnsafeBytes(of: &four) { Array($0)[...] }))
        }
        var six = in6_addr()
        if inet_pton(AF_INET6, text, &six) == 1 {
            return .ipAddress(ASN1OctetString(contentBytes: withUnsafeBytes(of: &six) { Array($0)[...] }))
        }
        let labels = text.split(separator: ".", omittingEmptySubsequences: false)
        let valid = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                        true
                    default: false
                    }
                }
        }
        // A last label of digits only is a mistyped IPv4 address, not a name.
        guard valid, text.utf8.count <= 253, let last = labels.last, last.contains(where: \.isLetter) else {
            throw .badAlternativeName(text)
        }
        return .dnsName(text)
    }
}
