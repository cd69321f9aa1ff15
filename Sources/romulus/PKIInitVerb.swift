import ArgumentParser
import PKI

struct PKIInitVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make the authority that the hosts' certificates come from.",
        discussion: "Its key stays on this host, readable by its owner only; keep a copy in a safe place.")

    @Option(help: "Where it goes.")
    var directory = PKIVerb.defaultDirectory

    @Option(help: "A name for it, shown in certificates.")
    var name = "Romulus"

    @Option(help: "How many days it is valid.")
    var days = Profile.authorityDays

    @OptionGroup var printing: OutputOptions

    func run() async throws {
        try PKIVerb.reporting {
            let authority = try CertificateAuthority.create(directory: directory, name: name, days: days)
            switch printing.output {
            case .json: try Terminal.json(CertificateReport(facts: authority.facts))
            case .table:
                Terminal.result("made \(authority.facts.path)\n")
                Terminal.remark("next: romulus pki issue NODE --address ADDRESS, once for each host", printing)
            }
        }
    }
}
