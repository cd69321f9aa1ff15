import ArgumentParser
import Model
import RomulusAPI

struct CheckVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Tell everything that stands in the way of protecting a VM.",
        discussion: """
            Looks at the running QEMU here and at what its standby would need on the other host. Nothing is changed. \
            Exit status: 0 it can be protected; 5 it cannot.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Option(help: "The socket of its QMP monitor. Default: the configured one, else that of the QEMU that runs the VM.")
    var qmp: String?

    @Option(help: "The host that would take over. Default: the configured one, or the only peer.")
    var standby: NodeName?

    @Flag(help: "Missing disk images at the standby are no problem: protect is to make them.")
    var createImage = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let report = try await options.client.check(
                CheckRequest(vm: vm, qmp: qmp, standby: standby, createImage: createImage ? true : nil))
            switch options.printing.output {
            case .json: try Terminal.json(report)
            case .table: Terminal.result(Self.text(report))
            }
            if !report.problems.isEmpty { throw ExitCode(5) }
        }
    }

    private static func text(_ report: CheckReport) -> String {
        let standby = report.standby.map { " by \($0)" } ?? ""
        var lines = ["\(report.vm) \(report.problems.isEmpty ? "can" : "cannot") be protected\(standby)"]
        lines += report.problems.map { "- \($0.host): \($0.text)" }
        lines += report.notes.map { "  note of \($0.host): \($0.text)" }
        return lines.joined(separator: "\n") + "\n"
    }
}
