/// The small certificate authority that joins the hosts, and what a node loads from it.
///
/// Owns: the files `ca.crt`, `ca.key`, `NODE.crt` and `NODE.key`, the profile of the certificates in them, and the one
/// rule by which a peer's certificate is accepted: issued directly by our own authority, valid now, made for the side
/// that the peer plays, naming one node. There are no intermediate authorities and no system trust store.
///
/// May call: swift-certificates and swift-crypto for X.509 and keys, Glibc for files with exact modes. It opens no
/// connection; Transport asks it about the certificates that it sees.
///
/// The certificates: ECDSA on P-256 with SHA-256, which every TLS 1.3 stack accepts; X.509 version 3; a node's name
/// stands in the subject's common name and, as what counts, in the URI `romulus://node/NAME` among the alternative
/// names. Addresses and DNS names may stand beside it for the eyes of other tools; Romulus does not look at them,
/// because a host keeps its name when its address changes.
import Model

public enum Profile {
    public static let authorityCertificateFile = "ca.crt"
    public static let authorityKeyFile = "ca.key"
    public static func certificateFile(of node: NodeName) -> String { "\(node).crt" }
    public static func keyFile(of node: NodeName) -> String { "\(node).key" }

    /// Certificates are valid from this many seconds before they are issued, so that a host whose clock is a little
    /// behind takes them at once.
    public static let backdatingSeconds = 300.0
    public static let authorityDays = 3650
    public static let nodeDays = 825
    /// Longest lifetime that may be asked for, in days.
    public static let daysMax = 36500

    static let nodePrefix = "romulus://node/"
    /// A certificate or key file of ours has about 1 KB; what is longer than this is something else.
    static let fileBytesMax = 64 * 1024
    static let alternativeNamesMax = 64
    static let secondsPerDay = 86400.0
}

extension NodeName {
    /// As `init?(_:)`, with the sentence that an operator is shown.
    public init(checking text: String) throws(PKIError) {
        guard let name = NodeName(text) else { throw .badNodeName(text) }
        self = name
    }
}
