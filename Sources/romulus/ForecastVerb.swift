import ArgumentParser
import Model
import RomulusAPI

struct ForecastVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forecast", abstract: "Tell what protecting a VM would cost, from watching it.",
        discussion: """
            Finds, copies and encodes what the guest writes as protection would, for several epoch lengths in turn, and \
            sends nothing. Now and then the guest stands still for as long as a checkpoint takes, a millisecond or two. \
            Afterwards QEMU is as it was.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Option(help: "The socket of its QMP monitor. Default: the configured one, else that of the QEMU that runs the VM.")
    var qmp: String?

    @Option(help: "The host that would take over. Default: the configured one, or the only peer.")
    var standby: NodeName?

    @Option(help: "How long to watch, 2 to 300.")
    var seconds = ForecastRequest.usualSeconds

    @Flag(help: "Never stop the guest; pauses are then typical ones.")
    var noPause = false

    @Option(help: "What the link carries, in Mbit/s.")
    var linkMbit: Double?

    @Option(help: "How many clients ask the guest at the same time, each waiting for its answers. Default: 1.")
    var clients: Int?

    @Option(help: "Requests of one transaction, one after the other. Default: 1.")
    var roundTrips: Int?

    @OptionGroup var options: AgentOptions

    func validate() throws {
        let range = ForecastRequest.secondsRange
        guard range.contains(seconds) else {
            throw ValidationError("--seconds takes \(Int(range.lowerBound)) to \(Int(range.upperBound))")
        }
        guard linkMbit.map({ $0 > 0 }) ?? true else { throw ValidationError("--link-mbit takes more than 0") }
        let counts = ForecastRequest.countRange
        for (name, count) in [("--clients", clients), ("--round-trips", roundTrips)] {
            guard count.map(counts.contains) ?? true else {
                throw ValidationError("\(name) takes \(counts.lowerBound) to \(counts.upperBound)")
            }
        }
    }

    func run() async throws {
        try await reportingErrors {
            if Terminal.stderrIsTerminal {
                Terminal.remark("watching \(vm) for \(Units.decimal(seconds, 0)) s …", options.printing)
            }
            let forecast = try await options.client.forecast(
                ForecastRequest(
                    vm: vm, qmp: qmp, standby: standby, seconds: seconds, pause: noPause ? false : nil,
                    linkMegabits: linkMbit, clients: clients, roundTrips: roundTrips))
            switch options.printing.output {
            case .json: try Terminal.json(forecast)
            case .table: Terminal.result(ForecastText.text(forecast, colour: Terminal.colour))
            }
        }
    }
}
