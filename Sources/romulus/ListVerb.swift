import ArgumentParser
import RomulusAPI

struct ListVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show the VMs that this host's agent knows.")

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let vms = try await options.client.list()
            switch options.printing.output {
            case .json: try Terminal.json(VMList(vms.sorted { $0.name < $1.name }))
            case .table: Terminal.result(StatusText.list(vms, colour: Terminal.colour))
            }
        }
    }
}
