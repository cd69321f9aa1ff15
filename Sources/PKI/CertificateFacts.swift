import Crypto
import FoundationEssentials
import Model
import SwiftASN1
import X509

/// What a certificate file says, for `romulus pki show` and for expiry alarms.
public struct CertificateFacts: Sendable, Codable, Hashable {
    public enum Role: String, Sendable, Codable { case authority, node, other }

    public let path: String
    public let role: Role
    /// Nil unless the role is `node`.
    public let node: NodeName?
    public let subject: String
    public let issuer: String
    /// As shown by openssl: `URI:…`, `DNS:…`, `IP:…`.
    public let alternativeNames: [String]
    public let notBefore: Date
    public let notAfter: Date
    /// SHA-256 of the DER form, as pairs of upper-case hexadecimal digits joined by colons (`openssl x509
    /// -fingerprint -sha256`).
    public let fingerprint: String
    /// Hexadecimal.
    public let serialNumber: String

    /// Reads the first certificate of a PEM file; the certificate need not be valid now, nor ours.
    public static func show(_ path: String) throws(PKIError) -> CertificateFacts {
        try CertificateFacts(PEM.certificate(at: path), path: path)
    }

    /// Whole days until the certificate ends, rounded down; negative when it has ended.
    public func daysLeft(at now: Date = .now) -> Int {
        let days = (notAfter.timeIntervalSince(now) / Profile.secondsPerDay).rounded(.down)
        return Int(exactly: days) ?? (days < 0 ? .min : .max)
    }

    init(_ certificate: Certificate, path: String) throws(PKIError) {
        self.path = path
        let names = (try? certificate.extensions.subjectAlternativeNames).flatMap { $0 }.map(Array.init) ?? []
        node = Check.nodeName(in: names)
        if case .isCertificateAuthority = try? certificate.extensions.basicConstraints {
            role = .authority
        } else {
            role = node == nil ? .other : .node
        }
        subject = certificate.subject.description
        issuer = certificate.issuer.description
        alternativeNames = names.map(Self.text)
        notBefore = certificate.notValidBefore
        notAfter = certificate.notValidAfter
        do {
            fingerprint = Self.hexadecimal(SHA256.hash(data: try PEM.der(certificate)), separator: ":").uppercased()
        } catch {
            throw .notACertificate(path: path, reason: "\(error)")
        }
        serialNumber = Self.hexadecimal(certificate.serialNumber.bytes, separator: "")
    }

    private static func hexadecimal(_ bytes: some Sequence<UInt8>, separator: String) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: separator)
    }

    private static func text(_ name: GeneralName) -> String {
        switch name {
        case .uniformResourceIdentifier(let text): return "URI:\(text)"
        case .dnsName(let text): return "DNS:\(text)"
        case .rfc822Name(let text): return "email:\(text)"
        case .ipAddress(let octets):
            let bytes = Array(octets.bytes)
            if bytes.count == 4 { return "IP:" + bytes.map(String.init).joined(separator: ".") }
            guard bytes.count == 16 else { return "IP:?" }
            let groups = stride(from: 0, to: 16, by: 2).map {
                String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16)
            }
            return "IP:" + groups.joined(separator: ":")
        default: return name.description
        }
    }
}

extension CertificateFacts: CustomStringConvertible {
    /// Several lines, for a terminal.
    public var description: String { describe(at: .now) }

    public func describe(at now: Date) -> String {
        let days = daysLeft(at: now)
        var lines = ["file          \(path)", "role          \(role.rawValue)"]
        if let node { lines.append("node          \(node)") }
        lines += [
            "subject       \(subject)",
            "issuer        \(issuer)",
            "names         \(alternativeNames.isEmpty ? "-" : alternativeNames.joined(separator: ", "))",
            "valid from    \(timestamp(notBefore))",
            "valid until   \(timestamp(notAfter)) (\(days < 0 ? "expired" : "\(days) days left"))",
            "serial        \(serialNumber)",
            "fingerprint   SHA256 \(fingerprint)",
        ]
        return lines.joined(separator: "\n")
    }
}
