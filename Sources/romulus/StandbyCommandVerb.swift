import ArgumentParser
import Model
import RomulusAPI

struct StandbyCommandVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "standby-command", abstract: "Print the command line of a VM's standby, as shell text.",
        discussion: "It is derived from the running QEMU's own; docs/STANDBY-COMMAND.md has the rules.")

    @Argument(help: "A VM that the agent knows, or has in its configuration.")
    var vm: VMName?

    @Option(help: "The socket of the QMP monitor of any QEMU on this host.")
    var qmp: String?

    @OptionGroup var options: AgentOptions

    func validate() throws {
        guard vm != nil || qmp != nil else { throw ValidationError("give VM or --qmp PATH, or both") }
    }

    func run() async throws {
        try await reportingErrors {
            let request = StandbyCommandRequest(vm: vm, qmp: qmp)
            let text = try await options.client.standbyCommand(request)
            switch options.printing.output {
            case .json: try Terminal.json(StandbyCommandReply(text))
            case .table: Terminal.result(text.hasSuffix("\n") ? text : text + "\n")
            }
        }
    }
}
