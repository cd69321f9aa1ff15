import ArgumentParser
import FoundationEssentials
import Glibc
import Model
import PKI
import RomulusAPI

struct PKIIssueVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "issue", abstract: "Make a host's certificate and key.",
        discussion: """
            They are written beside the authority's files, or with --tar to stdout together with the authority's \
            certificate, so that the key is never stored on this host.
            """)

    @Argument(help: "The host's name, as “node” in its configuration and in the other hosts' “peers”.")
    var node: NodeName

    @Option(help: "An IP address or DNS name of the host, for other tools' eyes; may be given more than once.")
    var address: [String] = []

    @Option(help: "Where the authority is.")
    var directory = PKIVerb.defaultDirectory

    @Option(help: "Where the files go. Default: beside the authority's.")
    var into: String?

    @Option(help: "How many days the certificate is valid.")
    var days = Profile.nodeDays

    @Flag(help: "Write a tar archive with ca.crt, NODE.crt and NODE.key to stdout instead.")
    var tar = false

    @OptionGroup var printing: OutputOptions

    func validate() throws {
        if tar, into != nil { throw ValidationError("--tar and --into exclude each other") }
        if tar, Terminal.stdoutIsTerminal {
            throw ValidationError("--tar writes an archive with a key: pipe it to tar on the other host")
        }
    }

    func run() async throws {
        try PKIVerb.reporting {
            let authority = try CertificateAuthority.open(directory: directory)
            if tar {
                try writeArchive(authority)
                return
            }
            let issued = try authority.issue(node: node, addresses: address, days: days, into: into)
            switch printing.output {
            case .json: try Terminal.json(CertificateReport(facts: issued.facts))
            case .table: Terminal.result("made \(issued.certificatePath)\nmade \(issued.keyPath)\n")
            }
        }
    }

    private func writeArchive(_ authority: CertificateAuthority) throws {
        var template = Array("/tmp/romulus-pki-XXXXXX\0".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw PKIError.unwritable(path: "/tmp", reason: String(cString: strerror(errno)))
        }
        let scratch = String(decoding: template.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        let certificate = Profile.certificateFile(of: node)
        let key = Profile.keyFile(of: node)
        defer {
            for name in [certificate, key] { unlink("\(scratch)/\(name)") }
            rmdir(scratch)
        }
        let issued = try authority.issue(node: node, addresses: address, days: days, into: scratch)
        var archive = TarArchive()
        let files = [
            (Profile.authorityCertificateFile, authority.facts.path, 0o644),
            (certificate, issued.certificatePath, 0o644),
            (key, issued.keyPath, 0o600),
        ]
        for (name, path, mode) in files {
            do {
                archive.add(name, mode: UInt32(mode), contents: Array(try Data(contentsOf: URL(filePath: path))))
            } catch {
                throw PKIError.unreadable(path: path, reason: "\(error)")
            }
        }
        archive.finish()
        Terminal.write(archive.bytes, to: STDOUT_FILENO)
        Terminal.remark("issued a certificate for \(node); its key is in the archive only", printing)
    }
}
