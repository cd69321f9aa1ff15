import ArgumentParser
import FoundationEssentials
import Model
import RomulusAPI

struct StatusVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show how a VM, or every VM, is protected.",
        discussion: """
            With --check the exit status tells: 0 protected; 2 degraded (not protected at this moment, and Romulus is \
            working at it or waits for the other host or for the VM's QEMU); 3 unprotected until somebody acts. Without VM the \
            worst counts, of those that should be protected or are in hand.
            """)

    @Argument(help: "The VM's name. Default: all.")
    var vm: VMName?

    @Flag(help: "Go on showing it until interrupted.")
    var watch = false

    @Option(help: "Seconds between two looks with --watch, 0.1 to 60.")
    var interval = 1.0

    @Flag(help: "Tell by the exit status whether it is protected.")
    var check = false

    @OptionGroup var options: AgentOptions

    func validate() throws {
        guard !(watch && check) else { throw ValidationError("--watch and --check exclude each other") }
        guard (0.1...60).contains(interval) else { throw ValidationError("--interval takes 0.1 to 60 seconds") }
    }

    func run() async throws {
        try await reportingErrors {
            if watch {
                if let vm { try await watchOne(vm) } else { try await watchAll() }
                return
            }
            let statuses: [VMStatus]
            if let vm {
                let status = try await options.client.status(of: vm)
                statuses = [status]
                switch options.printing.output {
                case .json: try Terminal.json(status)
                case .table: Terminal.result(StatusText.detail(status, colour: Terminal.colour))
                }
            } else {
                statuses = try await options.client.list()
                switch options.printing.output {
                case .json: try Terminal.json(VMList(statuses.sorted { $0.name < $1.name }))
                case .table: Terminal.result(StatusText.list(statuses, colour: Terminal.colour))
                }
            }
            let worst = statuses.map { (vm == nil ? $0.exitStatusAmongAll : $0.exitStatus).rawValue }.max() ?? 0
            if check, worst != 0 { throw ArgumentParser.ExitCode(worst) }
        }
    }

    private func watchOne(_ vm: VMName) async throws(APIError) {
        try await options.client.watch(vm, every: .seconds(interval)) { status throws(APIError) in
            try show([status], whole: StatusText.detail)
            return true
        }
    }

    private func watchAll() async throws {
        while true {
            let statuses = try await options.client.list().sorted { $0.name < $1.name }
            try show(statuses) { _, now, colour in StatusText.list(statuses, now: now, colour: colour) }
            try await Task.sleep(for: .seconds(interval))
        }
    }

    /// A picture that is drawn anew on a terminal, else one line per VM and look.
    private func show(
        _ statuses: [VMStatus], whole: (VMStatus, _ now: Date, _ colour: Bool) -> String
    ) throws(APIError) {
        if options.printing.output == .json {
            for status in statuses {
                do {
                    try Terminal.json(status, pretty: false)
                } catch {
                    throw APIError(.failed, "the status cannot be written as JSON: \(error)")
                }
            }
        } else if Terminal.stdoutIsTerminal {
            Terminal.redrawScreen(statuses.first.map { whole($0, Date(), Terminal.colour) } ?? "no VMs\n")
        } else {
            for status in statuses { Terminal.result(StatusText.line(status, colour: Terminal.colour)) }
        }
    }
}
