import ArgumentParser
import FoundationEssentials
import PKI
import RomulusAPI

struct PKIShowVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show what certificates say.")

    @Argument(help: "Certificate files. Default: all of --directory.")
    var files: [String] = []

    @Option(help: "Where to look when no file is named.")
    var directory = PKIVerb.defaultDirectory

    @OptionGroup var printing: OutputOptions

    func run() async throws {
        try PKIVerb.reporting {
            let facts = try paths().map { path throws(PKIError) in try CertificateFacts.show(path) }
            switch printing.output {
            case .json: try Terminal.json(facts.map(CertificateReport.init))
            case .table: Terminal.result(facts.map { "\($0)\n" }.joined(separator: "\n"))
            }
        }
    }

    private func paths() throws(PKIError) -> [String] {
        if !files.isEmpty { return files }
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: directory) else {
            throw .missing(path: directory)
        }
        let found = names.filter { $0.hasSuffix(".crt") }.sorted().map { "\(directory)/\($0)" }
        if found.isEmpty { throw .missing(path: "\(directory)/\(Profile.authorityCertificateFile)") }
        return found
    }
}
