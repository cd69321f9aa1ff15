import ArgumentParser
import Model
import RomulusAPI

struct ProtectVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "protect", abstract: "Protect a VM that runs on this host.",
        discussion: "The guest goes on running; memory and disks are copied to the standby first.")

    @Argument(
        help: """
            The VM's name or UUID, as its QEMU was started. “libvirt:NAME” is libvirt's domain of that name and no other QEMU.
            """)
    var vm: VMAddress

    @Option(help: "The socket of its QMP monitor. Default: the configured one, else that of the QEMU that runs the VM.")
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
                vm: vm.name, qmp: qmp, manager: vm.manager, standby: standby, level: level,
                epochMilliseconds: tuning.epochMs,
                targetLatency: tuning.targetLatency?.value, targetOverhead: tuning.targetOverhead?.value,
                pauseBudget: tuning.pauseBudget, linkCapMegabits: tuning.linkCap?.value,
                claim: claim ? true : nil, createImage: createImage ? true : nil)
            try request.checkTuning()
            var status = try await options.client.protect(request)
            if wait { status = try await ProtectionWait(vm: status.name, options: options).run(from: status) }
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                if status.state == .protected {
                    Terminal.result("\(status.name) is protected by \(status.peerName)\n")
                } else {
                    Terminal.result("\(status.name) is \(status.state.rawValue)\n")
                    Terminal.remark("see “romulus status \(status.name) --watch”", options.printing)
                }
            }
        }
    }
}

extension Level: ExpressibleByArgument {}

/// A VM as the operator names it where it is not known yet.
struct VMAddress: ExpressibleByArgument {
    var name: VMName
    var manager: GuestManager?

    init?(argument: String) {
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let last = parts.last, let name = VMName(last) else { return nil }
        self.name = name
        guard parts.count == 2 else { return }
        guard let manager = GuestManager(rawValue: parts[0]) else { return nil }
        self.manager = manager
    }
}
