import ArgumentParser
import Model
import RomulusAPI

struct RejoinVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rejoin", abstract: "Copy to the repaired disk of a VM what it lacks, while the guest runs.",
        discussion: """
            Runs where the guest is, at level component, for a disk that “romulus status” tells to be lost. The image is opened \
            anew by its path and must have its size; only what differs is copied. docs/COMPONENT.md tells more.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let status = try await options.client.rejoin(vm)
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table: Terminal.result("the lost disks of \(vm) rejoin; see “romulus status \(vm)”\n")
            }
        }
    }
}
