import ArgumentParser
import Model
import RomulusAPI

struct VerifyVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Prove that the replica's memory is the guest's, page by page.",
        discussion: """
            Runs at the host where the guest runs, which it goes on doing. Pages that differ are sent again. Exit status: 0 \
            no page differed; 8 some did; 1 it ended before its end; 5 it is not possible now.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let showsProgress = Terminal.stderrIsTerminal && !options.printing.quiet
            let result = try await options.client.verify(VerifyRequest(vm: vm)) { result in
                if showsProgress { Terminal.redrawLine(VerificationText.progress(result)) }
            }
            if showsProgress { Terminal.redrawLine("") }
            switch options.printing.output {
            case .json: try Terminal.json(result)
            case .table: Terminal.result(VerificationText.text(result, colour: Terminal.colour))
            }
            if result.differing > 0 { throw ArgumentParser.ExitCode(ExitStatus.differing.rawValue) }
        }
    }
}
