import FoundationEssentials
import Model

/// Why a certificate or key could not be made or loaded. Each description is one sentence for the operator: what,
/// where, why and the way out.
public enum PKIError: Error, Equatable, Sendable, CustomStringConvertible {
    case badNodeName(String)
    case badAlternativeName(String)
    case badValidity(days: Int)
    /// A file that would have been written is there already; nothing was changed.
    case exists(path: String)
    case missing(path: String)
    case unreadable(path: String, reason: String)
    case unwritable(path: String, reason: String)
    case notACertificate(path: String, reason: String)
    case notAKey(path: String, reason: String)
    case keyTooOpen(path: String, mode: UInt32)
    case keyMismatch(certificate: String, key: String)
    case notAnAuthority(path: String)
    /// The certificate at `path` is not a node's by our profile.
    case notANode(path: String, reason: String)
    case otherAuthority(path: String, authority: String)
    case expired(path: String, at: Date)
    case notYetValid(path: String, from: Date)
    case cryptography(operation: String, reason: String)

    public var description: String {
        switch self {
        case .badNodeName(let text):
            "“\(text)” is not a node name: use 1-64 letters, digits, dots, dashes or underscores, "
                + "not starting with a dot or a dash"
        case .badAlternativeName(let text):
            "“\(text)” is neither an IP address nor a DNS name: give what follows --address as 192.0.2.7, 2001:db8::7 "
                + "or host.example.org, at most \(Profile.alternativeNamesMax) of them"
        case .badValidity(let days):
            "a certificate cannot be valid for \(days) days: choose 1 to \(Profile.daysMax)"
        case .exists(let path):
            "\(path) exists already and is never overwritten: move it away, or choose another directory"
        case .missing(let path):
            "\(path) does not exist: make it with `romulus pki init` and `romulus pki issue`, or correct the path"
        case .unreadable(let path, let reason):
            "\(path) cannot be read: \(reason)"
        case .unwritable(let path, let reason):
            "\(path) cannot be written: \(reason)"
        case .notACertificate(let path, let reason):
            "\(path) is not a PEM certificate (\(reason)): give the .crt file that `romulus pki` wrote"
        case .notAKey(let path, let reason):
            "\(path) is not a PEM private key on the curve P-256 (\(reason)): give the .key file that `romulus pki` wrote"
        case .keyTooOpen(let path, let mode):
            "\(path) can be read or changed by others (mode \(octal(mode))): run `chmod 600 \(path)`, and issue a new "
                + "key if others had access to it"
        case .keyMismatch(let certificate, let key):
            "\(key) is not the key of \(certificate): copy both files from the same `romulus pki` run"
        case .notAnAuthority(let path):
            "\(path) is not the certificate of an authority: give the ca.crt that `romulus pki init` wrote"
        case .notANode(let path, let reason):
            "\(path) is not the certificate of a Romulus node (\(reason)): issue one with `romulus pki issue NODE`"
        case .otherAuthority(let path, let authority):
            "\(path) was not issued by \(authority): copy both from the same authority's directory, or issue it anew"
        case .expired(let path, let at):
            "\(path) expired on \(timestamp(at)): issue a new one with `romulus pki issue`, or correct this host's clock"
        case .notYetValid(let path, let from):
            "\(path) is valid only from \(timestamp(from)): correct this host's clock, or issue a new one"
        case .cryptography(let operation, let reason):
            "\(operation) failed: \(reason)"
        }
    }
}

/// Why a peer's certificate was refused.
public enum PeerRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    case noCertificate
    case malformed(reason: String)
    case otherAuthority(issuer: String)
    case expired(node: String, at: Date)
    case notYetValid(node: String, from: Date)
    case wrongProfile(reason: String)

    public var description: String {
        switch self {
        case .noCertificate:
            "it showed no certificate"
        case .malformed(let reason):
            "its certificate cannot be parsed: \(reason)"
        case .otherAuthority(let issuer):
            "its certificate was issued by “\(issuer)” and not by our authority: issue both nodes' certificates with the "
                + "same ca.key"
        case .expired(let node, let at):
            "the certificate of “\(node)” expired on \(timestamp(at)): issue a new one, or correct this host's clock"
        case .notYetValid(let node, let from):
            "the certificate of “\(node)” is valid only from \(timestamp(from)): correct the clock of this host or of the "
                + "one that issued it"
        case .wrongProfile(let reason):
            "its certificate is not that of a Romulus node: \(reason)"
        }
    }
}

func timestamp(_ date: Date) -> String { date.formatted(.iso8601) }

private func octal(_ mode: UInt32) -> String {
    let digits = String(mode & 0o7777, radix: 8)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
}
