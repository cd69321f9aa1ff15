import ArgumentParser
import Model
import RomulusAPI

struct SwitchoverVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "switchover", abstract: "Move the guest to the other host of its pair without losing anything.",
        discussion: """
            Runs at either host. The guest stands still, its last state travels, and it goes on from that very state at \
            the other host. If that host cannot go on with it, the guest runs on where it was.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Flag(help: "Wait until the guest runs at the other host (status 0), or runs on where it was (1).")
    var wait = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let request = SwitchoverRequest(vm: vm, waitMilliseconds: options.waitMilliseconds(wait))
            let status = try await options.client.switchover(request)
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                Terminal.result(wait ? "\(vm) was moved\n" : "\(vm) is being moved\n")
                if !wait { Terminal.remark("see “romulus why \(vm)”", options.printing) }
            }
        }
    }
}
