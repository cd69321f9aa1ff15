import FoundationEssentials
import Model
import SwiftASN1
import X509

/// The rules by which certificates are accepted. The chain is always exactly authority -> node: there is no path to
/// build, and what is not in the profile is refused.
enum Check {
    /// Refuses a certificate that is not a currently valid, self-signed authority.
    static func authority(_ certificate: Certificate, path: String, now: Date) throws(PKIError) {
        guard case .isCertificateAuthority = try? certificate.extensions.basicConstraints,
            (try? certificate.extensions.keyUsage)?.keyCertSign == true,
            certificate.issuer == certificate.subject,
            certificate.publicKey.isValidSignature(certificate.signature, for: certificate)
        else { throw .notAnAuthority(path: path) }
        try validity(certificate, path: path, now: now)
    }

    static func validity(_ certificate: Certificate, path: String, now: Date) throws(PKIError) {
        if now > certificate.notValidAfter { throw .expired(path: path, at: certificate.notValidAfter) }
        if now < certificate.notValidBefore { throw .notYetValid(path: path, from: certificate.notValidBefore) }
    }

    static func issued(_ certificate: Certificate, by authority: Certificate) -> Bool {
        certificate.issuer == authority.subject
            && authority.publicKey.isValidSignature(certificate.signature, for: certificate)
    }

    /// The node that `certificate` names, when it follows the profile and may play the side `usage`. The signature is
    /// not looked at here.
    static func node(
        _ certificate: Certificate, usage: ExtendedKeyUsage.Usage
    ) -> Result<NodeName, ProfileViolation> {
        guard certificate.version == .v3 else { return .failure("it is not of X.509 version 3") }
        for item in certificate.extensions where item.critical && !understood.contains(item.oid) {
            return .failure("its critical extension \(item.oid) is unknown")
        }
        guard case .notCertificateAuthority = try? certificate.extensions.basicConstraints else {
            return .failure("it is the certificate of an authority or does not say that it is none")
        }
        guard (try? certificate.extensions.keyUsage)?.digitalSignature == true else {
            return .failure("its key may not sign")
        }
        guard let usages = try? certificate.extensions.extendedKeyUsage, usages.contains(usage) else {
            return .failure("it is not made for a TLS \(usage == .serverAuth ? "server" : "client")")
        }
        guard let names = try? certificate.extensions.subjectAlternativeNames, let node = nodeName(in: Array(names))
        else { return .failure("it does not name exactly one node as \(Profile.nodePrefix)NAME") }
        return .success(node)
    }

    /// Nil unless exactly one name is a node's and no other name lays claim to our scheme.
    static func nodeName(in names: [GeneralName]) -> NodeName? {
        let ours = names.compactMap { name -> String? in
            guard case .uniformResourceIdentifier(let text) = name, text.hasPrefix("romulus://") else { return nil }
            return text
        }
        guard ours.count == 1, ours[0].hasPrefix(Profile.nodePrefix) else { return nil }
        return NodeName(String(ours[0].dropFirst(Profile.nodePrefix.count)))
    }

    private static let understood: Set<ASN1ObjectIdentifier> = [
        .X509ExtensionID.basicConstraints, .X509ExtensionID.keyUsage, .X509ExtensionID.extendedKeyUsage,
        .X509ExtensionID.subjectAlternativeName,
    ]
}

/// What in a certificate is not as the profile says.
struct ProfileViolation: Error, ExpressibleByStringInterpolation, CustomStringConvertible {
    let description: String
    init(stringLiteral value: String) { description = value }
}
