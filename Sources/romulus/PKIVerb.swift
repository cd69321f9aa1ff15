import ArgumentParser
import FoundationEssentials
import Glibc
import Model
import PKI
import RomulusAPI

struct PKIVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pki", abstract: "Make and look at the certificates with which hosts know each other.",
        discussion: """
            Two hosts are joined by three commands on one of them:
              romulus pki init
              romulus pki issue alpha --address 10.0.0.1
              romulus pki issue beta --address 10.0.0.2 --tar | ssh root@beta 'install -d -m 700 /etc/romulus/pki && \
            tar -x -C /etc/romulus/pki'
            """,
        subcommands: [PKIInitVerb.self, PKIIssueVerb.self, PKIShowVerb.self])

    static let defaultDirectory = "/etc/romulus/pki"

    /// As `reportingErrors`, for what goes wrong with certificates.
    static func reporting(_ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as PKIError {
            Terminal.complain("\(error)")
            throw ArgumentParser.ExitCode(ExitStatus.failed.rawValue)
        }
    }
}

/// A certificate as `--output json` shows it.
struct CertificateReport: Encodable {
    let facts: CertificateFacts

    enum CodingKeys: String, CodingKey {
        case path, role, node, subject, issuer, names, fingerprint
        case notBefore = "not_before"
        case notAfter = "not_after"
        case daysLeft = "days_left"
        case serialNumber = "serial_number"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(facts.path, forKey: .path)
        try container.encode(facts.role, forKey: .role)
        try container.encodeIfPresent(facts.node, forKey: .node)
        try container.encode(facts.subject, forKey: .subject)
        try container.encode(facts.issuer, forKey: .issuer)
        try container.encode(facts.alternativeNames, forKey: .names)
        try container.encode(facts.fingerprint, forKey: .fingerprint)
        try container.encode(facts.notBefore, forKey: .notBefore)
        try container.encode(facts.notAfter, forKey: .notAfter)
        try container.encode(facts.daysLeft(), forKey: .daysLeft)
        try container.encode(facts.serialNumber, forKey: .serialNumber)
    }
}
