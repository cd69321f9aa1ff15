import Foundation
import Model
import PKI
import Testing

/// Every way in which what a node loads, or what a peer shows, can be wrong.
@Suite struct LoadingTests {
    let scratch = Scratch()
    let now = Date(timeIntervalSince1970: 1_800_000_000)
    let node = NodeName("n")!

    init() throws {
        let authority = try CertificateAuthority.create(directory: scratch.path, days: 1000, now: now)
        _ = try authority.issue(node: node, days: 10, now: now)
    }

    func load(
        authority: String = "ca.crt", certificate: String = "n.crt", key: String = "n.key", now: Date? = nil
    ) throws -> TLSIdentity {
        try TLSIdentity.load(
            authority: scratch.file(authority), certificate: scratch.file(certificate), key: scratch.file(key),
            now: now ?? self.now)
    }

    @Test func missing() throws {
        #expect(throws: PKIError.missing(path: scratch.file("no.crt"))) { try load(authority: "no.crt") }
        #expect(throws: PKIError.missing(path: scratch.file("no.crt"))) { try load(certificate: "no.crt") }
        #expect(throws: PKIError.missing(path: scratch.file("no.key"))) { try load(key: "no.key") }
        #expect(throws: PKIError.missing(path: scratch.file("n.crt/x"))) { try load(key: "n.crt/x") }
    }

    @Test func notAFile() throws {
        #expect(throws: PKIError.unreadable(path: scratch.file(""), reason: "it is not a plain file")) {
            try load(certificate: "")
        }
        // A FIFO without a writer must not block.
        #expect(mkfifo(scratch.file("fifo"), 0o600) == 0)
        #expect(throws: PKIError.unreadable(path: scratch.file("fifo"), reason: "it is not a plain file")) {
            try load(key: "fifo")
        }
        try scratch.write("long", String(repeating: "x", count: 70000), mode: 0o600)
        let error = #expect(throws: PKIError.self) { try load(key: "long") }
        #expect("\(try #require(error))".contains("longer than"))
    }

    @Test(arguments: ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
    func wrongFormat(_ text: String) throws {
        try scratch.write("bad", text, mode: 0o600)
        for error in [
            #expect(throws: PKIError.self) { try load(authority: "bad") },
            #expect(throws: PKIError.self) { try load(certificate: "bad") },
        ] {
            guard case .notACertificate(scratch.file("bad"), _)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        guard case .notAKey? = #expect(throws: PKIError.self, performing: { try load(key: "bad") }) else {
            Issue.record("another error")
            return
        }
    }

    @Test func truncatedAnywhere() throws {
        let whole = try scratch.text("n.crt")
        for length in stride(from: 0, to: whole.utf8.count - 2, by: 37) {
            try scratch.write("cut.crt", String(whole.prefix(length)))
            #expect(throws: PKIError.self) { try load(certificate: "cut.crt") }
        }
        let key = try scratch.text("n.key")
        for length in stride(from: 0, to: key.utf8.count - 2, by: 11) {
            try scratch.write("cut.key", String(key.prefix(length)), mode: 0o600)
            let error = try #require(#expect(throws: PKIError.self) { try load(key: "cut.key") })
            #expect(!key.split(separator: "\n")[1...].contains { $0.count > 8 && "\(error)".contains($0) })
        }
    }

    @Test(arguments: [0o640, 0o604, 0o644, 0o660, 0o610])
    func keyTooOpen(_ mode: Int) throws {
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: scratch.file("n.key"))
        let error = try #require(#expect(throws: PKIError.self) { try load() })
        guard case .keyTooOpen = error else {
            Issue.record("\(error)")
            return
        }
        #expect("\(error)".contains("mode 0\(String(mode, radix: 8))"))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: scratch.file("ca.key"))
        #expect(throws: PKIError.self) { try CertificateAuthority.open(directory: scratch.path, now: now) }
    }

    @Test func keyOfAnother() throws {
        let authority = try CertificateAuthority.open(directory: scratch.path, now: now)
        _ = try authority.issue(node: #require(NodeName("m")), now: now)
        #expect(throws: PKIError.keyMismatch(certificate: scratch.file("n.crt"), key: scratch.file("m.key"))) {
            try load(key: "m.key")
        }
    }

    @Test func otherAuthority() throws {
        // The same name, another key: only the signature tells them apart.
        _ = try CertificateAuthority.create(directory: scratch.file("other"), now: now)
        #expect(
            throws: PKIError.otherAuthority(path: scratch.file("n.crt"), authority: scratch.file("other/ca.crt"))
        ) { try load(authority: "other/ca.crt") }
        #expect(throws: PKIError.notAnAuthority(path: scratch.file("n.crt"))) { try load(authority: "n.crt") }
        #expect(throws: PKIError.keyMismatch(certificate: scratch.file("ca.crt"), key: scratch.file("n.key"))) {
            try load(certificate: "ca.crt")
        }
    }

    @Test func authorityIsNoNode() throws {
        guard
            case .notANode? = #expect(
                throws: PKIError.self, performing: { try load(certificate: "ca.crt", key: "ca.key") })
        else {
            Issue.record("another error")
            return
        }
    }

    @Test func validity() throws {
        let facts = try CertificateFacts.show(scratch.file("n.crt"))
        _ = try load(now: facts.notAfter)
        _ = try load(now: facts.notBefore)
        #expect(throws: PKIError.expired(path: scratch.file("n.crt"), at: facts.notAfter)) {
            try load(now: facts.notAfter.addingTimeInterval(1))
        }
        #expect(throws: PKIError.notYetValid(path: scratch.file("ca.crt"), from: facts.notBefore)) {
            try load(now: facts.notBefore.addingTimeInterval(-1))
        }
        #expect(throws: PKIError.self) {
            try CertificateAuthority.open(directory: scratch.path, now: now.addingTimeInterval(1001 * 86400))
        }
    }

    @Test func peers() throws {
        let us = try load()
        let facts = us.facts
        #expect(throws: PeerRefusal.noCertificate) { try us.verify(peer: [], playing: .dialer, now: now) }
        #expect(throws: PeerRefusal.expired(node: "n", at: facts.notAfter)) {
            try us.verify(peer: [us.certificateDER], playing: .dialer, now: facts.notAfter.addingTimeInterval(1))
        }
        #expect(throws: PeerRefusal.notYetValid(node: "n", from: facts.notBefore)) {
            try us.verify(peer: [us.certificateDER], playing: .dialer, now: facts.notBefore.addingTimeInterval(-1))
        }
        guard
            case .wrongProfile? = #expect(
                throws: PeerRefusal.self,
                performing: { try us.verify(peer: [us.authorityDER], playing: .listener, now: now) })
        else {
            Issue.record("the authority's own certificate was taken for a node's")
            return
        }
        let other = try CertificateAuthority.create(directory: scratch.file("other"), now: now)
        _ = try other.issue(node: node, now: now)
        let them = try TLSIdentity.load(directory: scratch.file("other"), node: node, now: now)
        guard
            case .otherAuthority? = #expect(
                throws: PeerRefusal.self,
                performing: {
                    try us.verify(peer: [them.certificateDER, us.certificateDER], playing: .dialer, now: now)
                })
        else {
            Issue.record("another error")
            return
        }
    }

    /// No single flipped bit of a certificate survives, and none traps.
    @Test func flippedBits() throws {
        let us = try load()
        for index in us.certificateDER.indices {
            var bytes = us.certificateDER
            bytes[index] ^= 1 << UInt8(index % 8)
            #expect(throws: PeerRefusal.self, "byte \(index)") {
                try us.verify(peer: [bytes], playing: .dialer, now: now)
            }
        }
        for length in us.certificateDER.indices {
            #expect(throws: PeerRefusal.self, "\(length) bytes") {
                try us.verify(peer: [Array(us.certificateDER[..<length])], playing: .dialer, now: now)
            }
        }
    }
}
