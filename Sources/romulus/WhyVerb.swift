import ArgumentParser
import Model
import RomulusAPI

struct WhyVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "why", abstract: "Tell what was last decided about a VM, why, and how long it took.",
        discussion: """
            The last chain of decisions in the journal of this host: what was detected or asked for, who granted it, what \
            was done, when output flowed again. The other host's journal tells its own part. Works also for a VM that the \
            agent has nothing to do with any more. Exit status 4: the journal has no decision about that VM.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let explanation = try await options.client.explanation(of: vm)
            switch options.printing.output {
            case .json: try Terminal.json(explanation)
            case .table: Terminal.result(WhyText.text(explanation, colour: Terminal.colour))
            }
        }
    }
}
