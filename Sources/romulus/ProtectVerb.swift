import ArgumentParser
import Model
import RomulusAPI

struct ProtectVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "protect", abstract: "Protect a VM that runs on this host.",
        discussion: "The guest goes on running; memory and disks are copied to the standby first.")

    @Argument(help: "The VM's name: letters, digits, dots, dashes and underscores.")
    var vm: VMName

    @Option(help: "The socket of its QMP monitor. Default: the configured one.")
    var qmp: String?

    @Option(help: "The host that is to take over, by its configured name. Default: the configured one.")
    var standby: NodeName?

    @Option(help: "What the VM shall survive: “restart” or “system”; docs/DIAL.md tells the difference.")
    var level: Level?

    @OptionGroup var tuning: TuningOptions

    @Flag(
        help: """
            Claim the VM although its register names another host, or a standby that may hold a newer state. This is your \
            word that the other one is off and that its state is given up.
            """)
    var claim = false

    @Flag(help: "Make disk images that are missing at the standby, empty; without it they must be there.")
    var createImage = false

    @Flag(help: "Wait until the VM is protected, and show how far the first copy is.")
    var wait = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let request = ProtectRequest(
                vm: vm, qmp: qmp, standby: standby, level: level, epochMilliseconds: tuning.epochMs,
                targetLatency: tuning.targetLatency?.value, targetOverhead: tuning.targetOverhead?.value,
                pauseBudget: tuning.pauseBudget, linkCapMegabits: tuning.linkCap?.value,
                claim: claim ? true : nil, createImage: createImage ? true : nil)
            try request.checkTuning()
            var status = try await options.client.protect(request)
            if wait { status = try await ProtectionWait(vm: vm, options: options).run(from: status) }
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                if status.state == .protected {
                    Terminal.result("\(vm) is protected by \(status.peerName)\n")
                } else {
                    Terminal.result("\(vm) is \(status.state.rawValue)\n")
                    Terminal.remark("see “romulus status \(vm) --watch”", options.printing)
                }
            }
        }
    }
}

extension Level: ExpressibleByArgument {}
