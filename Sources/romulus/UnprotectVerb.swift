import ArgumentParser
import Model
import RomulusAPI

struct UnprotectVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unprotect", abstract: "End protection and leave the guest running as if nothing had been.")

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let status = try await options.client.unprotect(UnprotectRequest(vm: vm))
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table: Terminal.result("\(vm) is \(status.state.rawValue)\n")
            }
        }
    }
}
