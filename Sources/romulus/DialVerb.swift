import ArgumentParser
import Model
import RomulusAPI

struct DialVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dial", abstract: "Turn a VM to another level of protection, while it runs.",
        discussion: """
            Runs where the guest is. What the new level needs is attached first; where that fails, the VM stays at the level \
            that it had. docs/DIAL.md tells the steps.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Argument(help: "What it shall survive: “restart” or “system”.")
    var level: Level

    @Flag(help: "Wait until the level is in force (status 0), or is not to be had (1).")
    var wait = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let request = DialRequest(vm: vm, level: level, waitMilliseconds: options.waitMilliseconds(wait))
            let status = try await options.client.dial(request)
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                let isThere = status.level == level && status.dial == nil
                Terminal.result(
                    isThere
                        ? "\(vm) is at level \(level.rawValue)\n" : "\(vm) is being turned to level \(level.rawValue)\n"
                )
                if !isThere { Terminal.remark("see “romulus status \(vm)”", options.printing) }
            }
        }
    }
}
