import ArgumentParser
import FoundationEssentials
import Model
import RomulusAPI

struct FailoverVerb: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "failover", abstract: "Let the standby go on with the guest.",
        discussion: """
            At the primary: its QEMU is ended and the standby goes on from the last committed checkpoint. At the \
            standby, when the primary is silent: your answer is the word that the primary is off; if it is not, two \
            copies of the guest run.
            """)

    @Argument(help: "The VM's name.")
    var vm: VMName

    @Flag(name: .shortAndLong, help: "Do not ask. At the standby: the primary is off, I made sure of it.")
    var yes = false

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await reportingErrors {
            let client = options.client
            let before = try await client.status(of: vm)
            try Terminal.confirm(question(before), isConfirmed: yes, what: "failover of \(vm)")
            let status = try await client.failover(FailoverRequest(vm: vm, force: true))
            switch options.printing.output {
            case .json: try Terminal.json(status)
            case .table:
                Terminal.result("\(vm) is \(status.state.rawValue)\n")
                if status.state != .running { Terminal.remark("see “romulus events \(vm)”", options.printing) }
            }
        }
    }

    private func question(_ status: VMStatus) -> String {
        let age = Units.age(Date().timeIntervalSince(status.since))
        switch status.role {
        case .primary:
            return
                "\(vm) runs here (\(status.state.rawValue) for \(age)). Its QEMU here is ended and \(status.peerName) goes on."
        case .standby:
            return
                "\(vm) is to go on here from epoch \(status.epoch). Its primary \(status.peerName) is \(status.state.rawValue) "
                + "for \(age). If \(status.peerName) is not off, two copies of the guest will run."
        }
    }
}
