import Foundation
import Model
import PKI
import Testing

private let day = 86400.0

@Suite struct AuthorityTests {
    let scratch = Scratch()
    let now = Date(timeIntervalSince1970: 1_800_000_000)

    @Test func joinsTwoHosts() throws {
        let directory = scratch.file("pki")
        let authority = try CertificateAuthority.create(directory: directory, now: now)
        #expect(authority.facts.role == .authority)
        let alpha = try #require(NodeName("alpha"))
        let beta = try #require(NodeName("beta-2.example_x"))
        let issued = try authority.issue(node: alpha, addresses: ["192.0.2.7", "2001:db8::7", "a.example"], now: now)
        #expect(
            issued.facts.alternativeNames == [
                "URI:romulus://node/alpha", "IP:192.0.2.7", "IP:2001:db8:0:0:0:0:0:7", "DNS:a.example",
            ])
        _ = try CertificateAuthority.open(directory: directory, now: now).issue(node: beta, now: now)

        let one = try TLSIdentity.load(directory: directory, node: alpha, now: now)
        let two = try TLSIdentity.load(directory: directory, node: beta, now: now)
        for side in [TLSIdentity.Side.listener, .dialer] {
            #expect(try one.verify(peer: [two.certificateDER], playing: side, now: now) == beta)
            #expect(try two.verify(peer: [one.certificateDER], playing: side, now: now) == alpha)
        }
        #expect(!"\(one)".contains("PRIVATE"))
    }

    @Test func writesExactModes() throws {
        let before = umask(0)
        defer { umask(before) }
        let authority = try CertificateAuthority.create(directory: scratch.file("deep/pki"))
        _ = try authority.issue(node: #require(NodeName("n")))
        #expect(try scratch.mode("deep") == 0o700)
        #expect(try scratch.mode("deep/pki") == 0o700)
        for (file, mode) in [("ca.crt", 0o644), ("ca.key", 0o600), ("n.crt", 0o644), ("n.key", 0o600)] {
            #expect(try scratch.mode("deep/pki/" + file) == mode, "\(file)")
        }
    }

    @Test func neverOverwrites() throws {
        let authority = try CertificateAuthority.create(directory: scratch.path)
        let node = try #require(NodeName("n"))
        _ = try authority.issue(node: node)
        let files = ["ca.crt", "ca.key", "n.crt", "n.key"]
        let before = try files.map(scratch.text)
        #expect(throws: PKIError.exists(path: scratch.file("ca.crt"))) {
            try CertificateAuthority.create(directory: scratch.path)
        }
        #expect(throws: PKIError.exists(path: scratch.file("n.crt"))) { try authority.issue(node: node) }
        #expect(try files.map(scratch.text) == before)

        // Half of a pair: the other half must not appear, a link to elsewhere must not be followed.
        try scratch.write("half.key", "mine", mode: 0o600)
        #expect(throws: PKIError.exists(path: scratch.file("half.key"))) {
            try authority.issue(node: #require(NodeName("half")))
        }
        #expect(!FileManager.default.fileExists(atPath: scratch.file("half.crt")))
        #expect(try scratch.text("half.key") == "mine")
        try FileManager.default.createSymbolicLink(
            atPath: scratch.file("link.crt"), withDestinationPath: scratch.file("elsewhere"))
        #expect(throws: PKIError.exists(path: scratch.file("link.crt"))) {
            try authority.issue(node: #require(NodeName("link")))
        }
        #expect(!FileManager.default.fileExists(atPath: scratch.file("elsewhere")))
    }

    @Test func refusesBadRequests() throws {
        let authority = try CertificateAuthority.create(directory: scratch.path)
        let node = try #require(NodeName("n"))
        for text in ["", "10.0.0", "10.0.0.256", "-a.example", "a..b", "a b", "host.", "é.example"] {
            #expect(throws: PKIError.badAlternativeName(text), "\(text)") {
                try authority.issue(node: node, addresses: [text])
            }
        }
        for days in [0, -1, Profile.daysMax + 1, .max] {
            #expect(throws: PKIError.badValidity(days: days)) { try authority.issue(node: node, days: days) }
            #expect(throws: PKIError.badValidity(days: days)) {
                try CertificateAuthority.create(directory: scratch.file("x"), days: days)
            }
        }
        for text in ["", ".", "..", "-x", "a/b", "a b", "ä", String(repeating: "x", count: 65), "a\0b"] {
            #expect(NodeName(text) == nil)
            #expect(throws: PKIError.badNodeName(text)) { try NodeName(checking: text) }
        }
        #expect(!FileManager.default.fileExists(atPath: scratch.file("n.crt")))
        try scratch.write("plain", "")
        #expect(throws: PKIError.unwritable(path: scratch.file("plain"), reason: "it is not a directory")) {
            try CertificateAuthority.create(directory: scratch.file("plain"))
        }
    }

    @Test func nodeDoesNotOutliveAuthority() throws {
        let authority = try CertificateAuthority.create(directory: scratch.path, days: 10, now: now)
        let issued = try authority.issue(node: #require(NodeName("n")), days: 100, now: now)
        #expect(issued.facts.notAfter == authority.facts.notAfter)
        #expect(issued.facts.notBefore == now.addingTimeInterval(-300))
    }

    @Test func showsFacts() throws {
        let authority = try CertificateAuthority.create(directory: scratch.path, now: now)
        _ = try authority.issue(node: #require(NodeName("n")), days: 30, now: now)
        let facts = try CertificateFacts.show(scratch.file("n.crt"))
        #expect(facts.role == .node)
        #expect(facts.node == NodeName("n"))
        #expect(facts.daysLeft(at: now) == 30)
        #expect(facts.daysLeft(at: now.addingTimeInterval(29.5 * day)) == 0)
        #expect(facts.daysLeft(at: now.addingTimeInterval(31.5 * day)) == -2)
        let text = facts.describe(at: now)
        #expect(text.contains("romulus://node/n") && text.contains("30 days left") && text.contains(facts.fingerprint))
        #expect(facts.describe(at: now.addingTimeInterval(31 * day)).contains("expired"))
        let copy = try JSONDecoder().decode(CertificateFacts.self, from: JSONEncoder().encode(facts))
        #expect(copy == facts)
        #expect(throws: PKIError.self) { try CertificateFacts.show(scratch.file("n.key")) }
    }
}

/// What openssl, which shares no code with us, makes of the files.
@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl"), "needs /usr/bin/openssl"))
struct OpenSSLTests {
    @Test func agrees() throws {
        let scratch = Scratch()
        let authority = try CertificateAuthority.create(directory: scratch.path)
        let issued = try authority.issue(node: #require(NodeName("n")), addresses: ["192.0.2.7", "n.example"])
        for purpose in ["sslserver", "sslclient"] {
            let result = try run(
                "/usr/bin/openssl",
                [
                    "verify", "-x509_strict", "-CAfile", scratch.file("ca.crt"), "-purpose", purpose, "-verify_ip",
                    "192.0.2.7", "-verify_hostname", "n.example", issued.certificatePath,
                ])
            #expect(result.succeeded, "\(result.output)")
        }
        let shown = try run(
            "/usr/bin/openssl",
            ["x509", "-in", issued.certificatePath, "-noout", "-text", "-fingerprint", "-sha256"])
        #expect(shown.succeeded)
        #expect(shown.output.contains("Fingerprint=" + issued.facts.fingerprint))
        #expect(shown.output.contains("URI:romulus://node/n, IP Address:192.0.2.7, DNS:n.example"))
        #expect(shown.output.contains("CN = n"))
        #expect(try run("/usr/bin/openssl", ["pkey", "-in", issued.keyPath, "-check", "-noout"]).succeeded)

        let other = Scratch()
        _ = try CertificateAuthority.create(directory: other.path)
        let wrong = try run(
            "/usr/bin/openssl", ["verify", "-CAfile", other.file("ca.crt"), issued.certificatePath])
        #expect(!wrong.succeeded)
    }
}
