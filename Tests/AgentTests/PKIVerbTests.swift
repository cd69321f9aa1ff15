import Foundation
import Model
import PKI
import RomulusAPI
import TestBed
import Testing

@Suite struct PKIVerbTests {
    static func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        let directory = "/tmp/romulus-test-pki-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        return try await body(directory)
    }

    /// The three commands of the manual; the second host's files travel through a real tar.
    @Test func threeCommandsJoinTwoHosts() async throws {
        try await Self.withDirectory { directory in
            let alpha = directory + "/alpha"
            let beta = directory + "/beta"
            let initialised = try await RomulusProgram.run(["pki", "init", "--directory", alpha])
            #expect(initialised.status == 0 && initialised.out == "made \(alpha)/ca.crt\n")
            let issued = try await RomulusProgram.run(
                ["pki", "issue", "alpha", "--address", "10.0.0.1", "--directory", alpha])
            #expect(issued.status == 0 && issued.out == "made \(alpha)/alpha.crt\nmade \(alpha)/alpha.key\n")
            try FileManager.default.createDirectory(atPath: beta, withIntermediateDirectories: false)
            let program = RomulusProgram.path
            let status = try await onOwnThread {
                try Child.outcome(of: [
                    "/bin/sh", "-c",
                    "\(program) -q pki issue beta --address 10.0.0.2 --directory \(alpha) --tar | tar -x -C \(beta)",
                ]).exit
            }
            #expect(status == .code(0))

            let left = try TLSIdentity.load(directory: alpha, node: "alpha")
            let right = try TLSIdentity.load(directory: beta, node: "beta")
            #expect(try left.verify(peer: [right.certificateDER], playing: .dialer).description == "beta")
            #expect(try right.verify(peer: [left.certificateDER], playing: .listener).description == "alpha")
            // The second host's key is on the second host only, and closed to others.
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: alpha).sorted() == [
                    "alpha.crt", "alpha.key", "ca.crt", "ca.key",
                ])
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: beta).sorted() == [
                    "beta.crt", "beta.key", "ca.crt",
                ])
            var key = stat()
            #expect(stat(beta + "/beta.key", &key) == 0 && key.st_mode & 0o777 == 0o600)
        }
    }

    @Test func showTellsAndNothingIsOverwritten() async throws {
        try await Self.withDirectory { directory in
            _ = try await RomulusProgram.run(["pki", "init", "--directory", directory, "--days", "30"])
            _ = try await RomulusProgram.run(
                ["pki", "issue", "alpha", "--address", "host.example.org", "--directory", directory])
            let shown = try await RomulusProgram.run(["pki", "show", "--directory", directory])
            #expect(
                shown.status == 0 && shown.out.contains("DNS:host.example.org")
                    && shown.out.contains(/\((29|30) days left\)/))
            struct Report: Decodable {
                let role: String
                let node: String?
                let daysLeft: Int
                let notAfter: Date

                enum CodingKeys: String, CodingKey {
                    case role, node
                    case daysLeft = "days_left"
                    case notAfter = "not_after"
                }
            }
            let json = try await RomulusProgram.run(["pki", "show", "-o", "json", "--directory", directory])
            let reports = try JSONCoding.decode([Report].self, from: Data(json.out.utf8))
            #expect(reports.map(\.role) == ["node", "authority"] && reports.map(\.node) == ["alpha", nil])
            #expect((29...30).contains(reports[0].daysLeft) && reports[0].notAfter > .now)

            for arguments in [["pki", "init"], ["pki", "issue", "alpha"]] {
                let again = try await RomulusProgram.run(arguments + ["--directory", directory])
                #expect(again.status == 1 && again.err.contains("exists already and is never overwritten"))
            }
            let nothing = try await RomulusProgram.run(["pki", "show", "--directory", directory + "/no"])
            #expect(nothing.status == 1 && nothing.err.contains("does not exist"))
            let address = try await RomulusProgram.run(
                ["pki", "issue", "beta", "--address", "not an address", "--directory", directory])
            #expect(address.status == 1 && address.err.contains("neither an IP address nor a DNS name"))
        }
    }
}
