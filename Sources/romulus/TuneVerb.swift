import ArgumentParser
import Model
import RomulusAPI

struct TuneVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tune", abstract: "Change the epochs and the link use of a protected VM.",
        discussion: """
            Runs at the host where the guest runs. Nothing is copied anew: the next epoch follows the new settings. What is \
            not given stays as it is.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @OptionGroup var tuning: TuningOptions

    @Flag(help: "Fit epochs to no target any more.")
    var noTarget = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let request = TuneRequest(
                vm: vm, epochMilliseconds: tuning.epochMs, targetLatency: tuning.targetLatency?.value,
                targetOverhead: tuning.targetOverhead?.value, pauseBudget: tuning.pauseBudget,
                linkCapMegabits: tuning.linkCap?.value, noTarget: noTarget ? true : nil)
            try request.check()
            let status = try await options.client.tune(request)
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                Terminal.result("\(vm) was tuned\n")
                Terminal.remark("see “romulus status \(vm)”", options.printing)
            }
        }
    }
}

/// What `protect` and `tune` take alike.
struct TuningOptions: ParsableArguments {
    @Option(help: "The longest epoch of a guest that works, in milliseconds, 1 to 10000.")
    var epochMs: Int?

    @Option(help: "How long the guest's answers may wait, such as 5ms: epochs are fitted to that.")
    var targetLatency: Milliseconds?

    @Option(help: "The share of its work that protection may cost the guest, such as 5%: epochs are fitted to that.")
    var targetOverhead: Percentage?

    @Option(
        help: "Of a guest without a target, how much of its work pauses for its answers may cost, in percent, 1 to 90.")
    var pauseBudget: Int?

    @Option(help: "The most that its replication may send, such as 200 or 200mbit or 1gbit; “none” lifts the cap.")
    var linkCap: Megabits?
}

/// `5ms`, `800us`, `1s`; milliseconds when no unit is given.
struct Milliseconds: ExpressibleByArgument {
    let value: Double

    init?(argument: String) {
        let units: [(String, Double)] = [("ms", 1), ("us", 0.001), ("s", 1000), ("", 1)]
        guard let (unit, factor) = units.first(where: { argument.hasSuffix($0.0) }),
            let number = Double(argument.dropLast(unit.count)), number.isFinite
        else { return nil }
        value = number * factor
    }
}

/// `200mbit`, `1gbit`; megabits per second when no unit is given. `none` is 0.
struct Megabits: ExpressibleByArgument {
    let value: Int

    init?(argument: String) {
        if argument == "none" {
            value = 0
            return
        }
        let text = argument.lowercased()
        let units: [(String, Int)] = [("mbit", 1), ("gbit", 1000), ("", 1)]
        guard let (unit, factor) = units.first(where: { text.hasSuffix($0.0) }),
            let number = Int(text.dropLast(unit.count)), number > 0
        else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow else { return nil }
        value = product
    }
}

/// `5%` or `5`.
struct Percentage: ExpressibleByArgument {
    let value: Double

    init?(argument: String) {
        guard let number = Double(argument.hasSuffix("%") ? String(argument.dropLast()) : argument), number.isFinite
        else {
            return nil
        }
        value = number
    }
}
